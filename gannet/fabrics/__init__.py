"""Many nodes: the controller (membership, orders, results) and the fabrics that start them. No mathematics."""
