"""Nodes in containers: Docker Compose on one machine, a Docker Swarm over several."""
