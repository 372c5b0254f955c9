"""Descriptions of links: profiles, regions, traces, schedules, the state of all links, and the plan of one node."""
