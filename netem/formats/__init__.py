"""Files of networks, links and traces that other programs write, as parts of a spec."""
