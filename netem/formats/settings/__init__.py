"""Settings of one link that other programs write, as profiles."""
