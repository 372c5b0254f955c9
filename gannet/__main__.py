"""`python -m gannet`: the `gannet` command."""

from gannet.cli.main import main

main()
