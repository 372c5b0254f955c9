"""The GAN task: networks, losses, batches, snapshots."""
