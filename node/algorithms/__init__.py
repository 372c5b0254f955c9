"""The training algorithms, one short module each.

An algorithm is an async generator over a Worker: it yields a Step after every gradient step and does not know what it
runs on. It begins at `worker.start()` and passes all state besides x to `worker.keep`, so that a run can be resumed
from a checkpoint. `registry` maps the spec's names to algorithms.
"""
