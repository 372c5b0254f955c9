"""Topologies of a user's own, from Python files or entry points."""
