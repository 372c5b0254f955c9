"""What a run is: the spec, the comparison, the ledger, the report, the `gannet` command. No sockets."""
