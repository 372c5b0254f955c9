"""Link engines, which enforce plans: sch_netem in the kernel, or NFQUEUE and a process of our own."""
