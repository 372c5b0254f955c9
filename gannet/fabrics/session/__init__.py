"""One run, whatever its nodes live in: membership, deadlines, faults, the last step."""
