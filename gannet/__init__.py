"""Gannet (GAN over networks): train GANs over slow, far and lossy networks, and see which way of training wins."""
