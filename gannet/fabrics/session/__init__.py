"""One run on any node host: membership, deadlines, faults, the last step."""
