"""Links: profiles, plans, the engines that apply them, and the probes that measure them."""
