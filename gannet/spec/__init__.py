"""Spec files: read and checked, with one clear error for each mistake."""
