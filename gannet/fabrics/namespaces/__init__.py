"""Nodes in network namespaces on one machine, inside a sandbox that nothing outlasts."""
