"""Names of the metadata of calls."""

from __future__ import annotations

CREDENTIAL = "gannet-token"  # a caller's credential, see proto/control.proto
