"""Data: images in memory as uint8, and their distribution over nodes."""
