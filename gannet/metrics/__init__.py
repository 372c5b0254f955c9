"""Prometheus metrics of a run, as the controller serves them."""
