"""Spec files: what a user may write, read and checked, with one clear error for each mistake."""
