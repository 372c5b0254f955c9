"""What a run puts on the network: edges, bytes and hops of an exchange."""
