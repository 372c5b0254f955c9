"""Tables of latencies between nodes or regions."""
