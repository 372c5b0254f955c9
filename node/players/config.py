"""Settings of players that are exchanged separately, each in its own way, and their validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, Self, TypeVar

from gannet.node.codecs.registry import CodecSetting, codec_config
from gannet.node.methods.registry import METHODS, AlgorithmConfig
from gannet.node.mixing.registry import MixingConfig
from gannet.node.tasks.config import Settings
from gannet.node.topologies.registry import TopologyConfig

REST = ""  # stands for all players that the spec does not name, where the task does not name its players beforehand


class PlayerConfig(Settings):
    """The exchange of one of the task's players; fields left out are as in the run itself."""

    algorithm: AlgorithmConfig | None = None
    codec: CodecSetting | None = None
    topology: TopologyConfig | None = None
    mixing: MixingConfig | None = None


class HasPlayers(Protocol):
    """Fields that a run's spec and a node's config share here."""

    @property
    def task(self) -> Any: ...

    @property
    def algorithm(self) -> AlgorithmConfig: ...

    @property
    def codec(self) -> CodecSetting: ...

    @property
    def topology(self) -> TopologyConfig: ...

    @property
    def mixing(self) -> MixingConfig: ...

    @property
    def players(self) -> dict[str, PlayerConfig]: ...

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self: ...


C = TypeVar("C", bound=HasPlayers)


def parts_of(config: C, names: Iterable[str] | None = None) -> dict[str, C]:
    """Each player's settings, as those of a run that trains this player alone; empty where none are given.

    `names`: the players in the order of the vector; without them those of the task's config, and where it does not
    know them, those that are named and REST. Raises ValueError for a name that is no player's.
    """
    if not config.players:
        return {}
    names = names if names is not None else getattr(config.task, "players", None)
    everybody = tuple(names) if names is not None else (*config.players, REST)
    if unknown := sorted(set(config.players) - set(everybody)):
        raise ValueError(f"players.{unknown[0]}: this task has no such player; it has {', '.join(everybody)}")
    return {name: _part(config, config.players.get(name, PlayerConfig())) for name in everybody}


def _part(config: C, player: PlayerConfig) -> C:
    own = {name: getattr(player, name) for name in PlayerConfig.model_fields if getattr(player, name) is not None}
    return config.model_copy(update={**own, "players": {}})


def check_methods(config: HasPlayers, custom: bool = False) -> None:
    """Raise ValueError when an algorithm cannot be a player's, or does not fit its codec: the run's or a player's.

    `custom`: check user-defined codecs as well, which runs their code.
    """
    if not config.players:
        _check_codec(config, custom)
        return
    _check_whole("algorithm: ", config.algorithm, "is one for the whole task, and players are given: it ")
    for name, part in parts_of(config).items():
        where = f"players.{name}: " if name in config.players else ""
        _check_whole(where, part.algorithm, "cannot be one player's own: it ")
        try:
            _check_codec(part, custom)
        except ValueError as error:
            raise ValueError(f"{where}{error}") from None


def check_returns(config: HasPlayers) -> None:
    """Raise ValueError where a lost node cannot come back with the run's method, or with a player's."""
    for part in parts_of(config).values() or [config]:
        part.algorithm.traits.check_returns()


def _check_codec(part: HasPlayers, custom: bool) -> None:
    if custom or codec_config(part.codec).shipped:
        part.algorithm.traits.check_codec(part.codec)


def _check_whole(where: str, algorithm: AlgorithmConfig, what: str) -> None:
    if why := algorithm.traits.not_per_player:
        able = ", ".join(name for name, method in METHODS.items() if not method.not_per_player)
        raise ValueError(f"{where}{algorithm.title} {what}{why}; use one of {able}")
