"""What enforces a plan: sch_netem in the kernel, or NFQUEUE and a process of our own."""
