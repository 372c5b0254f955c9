"""The links of a running network: applied, changed, monitored, and open to operators."""
