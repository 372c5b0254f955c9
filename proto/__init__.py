"""The wire contracts: what nodes say to each other (exchange) and to the controller (control)."""
