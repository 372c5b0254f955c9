from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ShowRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Shown(_message.Message):
    __slots__ = ("run", "t_s", "state", "nodes", "upcoming")
    RUN_FIELD_NUMBER: _ClassVar[int]
    T_S_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    UPCOMING_FIELD_NUMBER: _ClassVar[int]
    run: str
    t_s: float
    state: str
    nodes: _containers.RepeatedCompositeFieldContainer[NodeLinks]
    upcoming: _containers.RepeatedCompositeFieldContainer[Upcoming]
    def __init__(self, run: _Optional[str] = ..., t_s: _Optional[float] = ..., state: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[NodeLinks, _Mapping]]] = ..., upcoming: _Optional[_Iterable[_Union[Upcoming, _Mapping]]] = ...) -> None: ...

class Upcoming(_message.Message):
    __slots__ = ("in_s", "what")
    IN_S_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    in_s: float
    what: str
    def __init__(self, in_s: _Optional[float] = ..., what: _Optional[str] = ...) -> None: ...

class ChangeRequest(_message.Message):
    __slots__ = ("apply", "clear", "partition", "heal", "isolate", "replay", "for_s")
    APPLY_FIELD_NUMBER: _ClassVar[int]
    CLEAR_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    HEAL_FIELD_NUMBER: _ClassVar[int]
    ISOLATE_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    FOR_S_FIELD_NUMBER: _ClassVar[int]
    apply: Apply
    clear: Clear
    partition: Partition
    heal: Heal
    isolate: Isolate
    replay: Replay
    for_s: float
    def __init__(self, apply: _Optional[_Union[Apply, _Mapping]] = ..., clear: _Optional[_Union[Clear, _Mapping]] = ..., partition: _Optional[_Union[Partition, _Mapping]] = ..., heal: _Optional[_Union[Heal, _Mapping]] = ..., isolate: _Optional[_Union[Isolate, _Mapping]] = ..., replay: _Optional[_Union[Replay, _Mapping]] = ..., for_s: _Optional[float] = ...) -> None: ...

class Apply(_message.Message):
    __slots__ = ("profile_json", "nodes", "links")
    PROFILE_JSON_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    profile_json: str
    nodes: _containers.RepeatedScalarFieldContainer[int]
    links: _containers.RepeatedCompositeFieldContainer[Link]
    def __init__(self, profile_json: _Optional[str] = ..., nodes: _Optional[_Iterable[int]] = ..., links: _Optional[_Iterable[_Union[Link, _Mapping]]] = ...) -> None: ...

class Link(_message.Message):
    __slots__ = ("source", "target")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    source: int
    target: int
    def __init__(self, source: _Optional[int] = ..., target: _Optional[int] = ...) -> None: ...

class Clear(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Partition(_message.Message):
    __slots__ = ("groups",)
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[Group]
    def __init__(self, groups: _Optional[_Iterable[_Union[Group, _Mapping]]] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, nodes: _Optional[_Iterable[int]] = ...) -> None: ...

class Heal(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Isolate(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, nodes: _Optional[_Iterable[int]] = ...) -> None: ...

class Replay(_message.Message):
    __slots__ = ("name", "csv", "nodes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CSV_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    name: str
    csv: str
    nodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., csv: _Optional[str] = ..., nodes: _Optional[_Iterable[int]] = ...) -> None: ...

class Changed(_message.Message):
    __slots__ = ("run", "t_s", "state", "nodes")
    RUN_FIELD_NUMBER: _ClassVar[int]
    T_S_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    run: str
    t_s: float
    state: str
    nodes: _containers.RepeatedCompositeFieldContainer[NodeLinks]
    def __init__(self, run: _Optional[str] = ..., t_s: _Optional[float] = ..., state: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[NodeLinks, _Mapping]]] = ...) -> None: ...

class NodeLinks(_message.Message):
    __slots__ = ("rank", "seconds", "engine", "up_bps", "down_bps", "paths", "differences", "error", "gone", "strangers")
    RANK_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    UP_BPS_FIELD_NUMBER: _ClassVar[int]
    DOWN_BPS_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    STRANGERS_FIELD_NUMBER: _ClassVar[int]
    rank: int
    seconds: float
    engine: str
    up_bps: float
    down_bps: float
    paths: _containers.RepeatedCompositeFieldContainer[Path]
    differences: _containers.RepeatedScalarFieldContainer[str]
    error: str
    gone: bool
    strangers: int
    def __init__(self, rank: _Optional[int] = ..., seconds: _Optional[float] = ..., engine: _Optional[str] = ..., up_bps: _Optional[float] = ..., down_bps: _Optional[float] = ..., paths: _Optional[_Iterable[_Union[Path, _Mapping]]] = ..., differences: _Optional[_Iterable[str]] = ..., error: _Optional[str] = ..., gone: _Optional[bool] = ..., strangers: _Optional[int] = ...) -> None: ...

class Path(_message.Message):
    __slots__ = ("source", "delay_ms", "jitter_ms", "loss_percent", "rate_bps")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    JITTER_MS_FIELD_NUMBER: _ClassVar[int]
    LOSS_PERCENT_FIELD_NUMBER: _ClassVar[int]
    RATE_BPS_FIELD_NUMBER: _ClassVar[int]
    source: int
    delay_ms: float
    jitter_ms: float
    loss_percent: float
    rate_bps: float
    def __init__(self, source: _Optional[int] = ..., delay_ms: _Optional[float] = ..., jitter_ms: _Optional[float] = ..., loss_percent: _Optional[float] = ..., rate_bps: _Optional[float] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("links",)
    LINKS_FIELD_NUMBER: _ClassVar[int]
    links: _containers.RepeatedCompositeFieldContainer[Link]
    def __init__(self, links: _Optional[_Iterable[_Union[Link, _Mapping]]] = ...) -> None: ...

class Verified(_message.Message):
    __slots__ = ("run", "certificate_json")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_JSON_FIELD_NUMBER: _ClassVar[int]
    run: str
    certificate_json: str
    def __init__(self, run: _Optional[str] = ..., certificate_json: _Optional[str] = ...) -> None: ...
