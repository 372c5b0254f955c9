"""The link certificate: which probes to send, what they found, and whether it is within tolerance."""
