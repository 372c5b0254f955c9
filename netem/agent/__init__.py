"""The link agent: a process in a node's network namespace that applies links, watches and probes them."""
