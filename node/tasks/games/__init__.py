"""Small min-max games with known solutions, to hold methods against theory."""
