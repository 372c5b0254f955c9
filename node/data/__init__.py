"""Data: images in memory as uint8, and how the nodes share them out."""
