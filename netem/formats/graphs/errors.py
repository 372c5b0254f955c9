"""What is wrong with a file of a network."""

from __future__ import annotations

from gannet.netem.formats.base import FormatError


class NetworkFileError(FormatError):
    """A file that cannot be read as its format or does not fit a plan; the message says what and what to do."""
