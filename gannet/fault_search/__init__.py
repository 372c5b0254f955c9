"""The search for faults: seeded schedules of everything that can happen to nodes, links and messages, each run on the
virtual fabric and held against what must be true whatever happens (see docs/reliability.md).
"""
