"""Codecs of a user's own, from Python files or entry points, and the checks of their usual mistakes."""
