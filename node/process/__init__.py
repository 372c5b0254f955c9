"""A node's process: joins the controller, trains on the wall clock, reports, and leaves."""
