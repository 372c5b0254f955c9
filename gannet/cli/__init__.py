"""The `gannet` command: one file a group of subcommands. Each checks its input, then calls what does the work."""
