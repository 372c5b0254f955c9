"""From a plan to tc and ip commands, and from what the kernel reports back to differences."""
