"""Small min-max games with known solutions, to compare methods with theory."""
