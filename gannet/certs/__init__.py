"""Certificates: of a run's nodes, made when it starts and gone with it, and those that a cluster keeps in files."""
