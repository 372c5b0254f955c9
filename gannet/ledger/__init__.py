"""The run folder: its writer, its readers, and the records that they share."""
