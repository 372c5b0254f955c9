"""The ways of training together, one short module each, side by side.

An algorithm is an async generator over a Worker: it yields a Step after every gradient step and never
asks what it runs on. It begins at `worker.start()`, and gives what it remembers beside x to `worker.keep`, so that a
run can go on from a checkpoint. `registry` maps the spec's names to them.
"""
