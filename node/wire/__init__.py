"""Generated from proto/*.proto: what nodes say to each other (exchange) and to the controller (control)."""
