"""Scores: their names, the mathematics on given features, and how many images they need."""
