"""Traces of one link that other programs write, as traces."""
