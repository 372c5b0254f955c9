"""Texts of others on a terminal: what they contain is shown, and nothing that they contain is obeyed."""

from __future__ import annotations

import re

# All that moves the cursor, colours, renames the window or turns the direction of reading: control characters but for
# tab and newline, and Unicode's marks of direction and of lines.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """The text with U+FFFD, of one column, in place of each character that a terminal would obey."""
    return _COMMANDS.sub("\N{REPLACEMENT CHARACTER}", text)
