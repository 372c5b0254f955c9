"""The run folder: who writes it, who reads it, and the records that both share."""
