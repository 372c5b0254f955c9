"""User-defined codecs, from Python files or entry points, and checks for common mistakes in them."""
