"""Settings of a user-defined codec: a Python file named in the spec, or an installed entry point."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

from gannet.node.codecs.base import Traits
from gannet.node.codecs.custom.load import GuardedCodec, build_own
from gannet.node.plugins import PythonSource


class PythonCodecConfig(PythonSource):
    """A user-defined codec. See docs/own-codec.md."""

    what: ClassVar[str] = "codec"
    group: ClassVar[str] = "gannet.codecs"

    @property
    def traits(self) -> Traits:
        """The codec's properties. Runs the user's code, and raises PluginError where that cannot be used."""
        return _traits(self)

    def build(self, seed: int, rank: int) -> GuardedCodec:
        """The codec as node `rank` has it. Raises PluginError."""
        return build_own(self, seed, rank)


@cache
def _traits(config: PythonCodecConfig) -> Traits:
    return config.build(0, 0)
