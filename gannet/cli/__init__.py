"""The `gannet` command: one file per group of subcommands. Each checks its input and calls other packages."""
