"""Families of graphs to gossip over, a file each; `gannet.node.topologies.topology` puts them under one roof.

A family is a Schedule: for each gossip round, counted from 1 over the whole run, every node's row of a
doubly stochastic mixing matrix W. Static graphs have a period of one round.
"""
