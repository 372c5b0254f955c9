"""Nodes in one process on a virtual clock, over a model of rates, queues and delays."""
