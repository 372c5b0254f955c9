"""The shipped traces, and `make`, which made them."""
