"""The training loop of one node: worker, optimizers, peers, checkpoints, and the effects it awaits."""
