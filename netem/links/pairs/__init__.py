"""What single pairs of nodes have by themselves: rates."""
