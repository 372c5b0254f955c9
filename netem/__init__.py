"""Links: profiles, plans, the engines that put them in force, and the probes that measure them."""
