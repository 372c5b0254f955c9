"""`python -m gannet`: the `gannet` command."""

from __future__ import annotations

import sys

if not sys.flags.safe_path:
    # `-m` put the present folder first: a file of the user's own there is not a module of ours or of a library's.
    del sys.path[0]

from gannet.cli.main import main

main()
