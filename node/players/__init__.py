"""Players of a task that are exchanged separately, each with its own algorithm, codec, topology and period.

`config` has the settings, `parts` cuts the flat vector into the players' parts. gannet.node.algorithms.by_player runs
an algorithm for each part concurrently, and gannet.node.traffic.players adds up their traffic. Importing this package
imports no torch.
"""
