"""Commands of `gannet net` that read and write files of networks."""
