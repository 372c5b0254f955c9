"""Network traffic of a run: edges, bytes and hops of an exchange."""
