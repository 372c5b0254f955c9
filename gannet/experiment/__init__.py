"""Runs and comparisons from a resolved spec to a report: start, observe, summarize, resume."""
