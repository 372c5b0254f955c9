from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentWord(_message.Message):
    __slots__ = ("hello", "answer")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    hello: AgentHello
    answer: AgentAnswer
    def __init__(self, hello: _Optional[_Union[AgentHello, _Mapping]] = ..., answer: _Optional[_Union[AgentAnswer, _Mapping]] = ...) -> None: ...

class AgentHello(_message.Message):
    __slots__ = ("host", "mesh_device", "mesh_address", "boot_id", "engines", "complaint")
    HOST_FIELD_NUMBER: _ClassVar[int]
    MESH_DEVICE_FIELD_NUMBER: _ClassVar[int]
    MESH_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    COMPLAINT_FIELD_NUMBER: _ClassVar[int]
    host: str
    mesh_device: str
    mesh_address: str
    boot_id: str
    engines: str
    complaint: str
    def __init__(self, host: _Optional[str] = ..., mesh_device: _Optional[str] = ..., mesh_address: _Optional[str] = ..., boot_id: _Optional[str] = ..., engines: _Optional[str] = ..., complaint: _Optional[str] = ...) -> None: ...

class AgentOrder(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: str
    def __init__(self, json: _Optional[str] = ...) -> None: ...

class AgentAnswer(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: str
    def __init__(self, json: _Optional[str] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("hello", "ready", "step", "finished", "failed", "refused", "warmed", "waiting", "can_leave", "state_offered", "state_fetched", "can_meet", "at_meeting", "healed", "number")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    WARMED_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    CAN_LEAVE_FIELD_NUMBER: _ClassVar[int]
    STATE_OFFERED_FIELD_NUMBER: _ClassVar[int]
    STATE_FETCHED_FIELD_NUMBER: _ClassVar[int]
    CAN_MEET_FIELD_NUMBER: _ClassVar[int]
    AT_MEETING_FIELD_NUMBER: _ClassVar[int]
    HEALED_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    ready: Ready
    step: Step
    finished: Finished
    failed: Failed
    refused: Refused
    warmed: Warmed
    waiting: Waiting
    can_leave: CanLeave
    state_offered: StateOffered
    state_fetched: StateFetched
    can_meet: CanMeet
    at_meeting: AtMeeting
    healed: Healed
    number: int
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., ready: _Optional[_Union[Ready, _Mapping]] = ..., step: _Optional[_Union[Step, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., warmed: _Optional[_Union[Warmed, _Mapping]] = ..., waiting: _Optional[_Union[Waiting, _Mapping]] = ..., can_leave: _Optional[_Union[CanLeave, _Mapping]] = ..., state_offered: _Optional[_Union[StateOffered, _Mapping]] = ..., state_fetched: _Optional[_Union[StateFetched, _Mapping]] = ..., can_meet: _Optional[_Union[CanMeet, _Mapping]] = ..., at_meeting: _Optional[_Union[AtMeeting, _Mapping]] = ..., healed: _Optional[_Union[Healed, _Mapping]] = ..., number: _Optional[int] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("pid", "certificate_request", "again")
    PID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    pid: int
    certificate_request: bytes
    again: Again
    def __init__(self, pid: _Optional[int] = ..., certificate_request: _Optional[bytes] = ..., again: _Optional[_Union[Again, _Mapping]] = ...) -> None: ...

class Again(_message.Message):
    __slots__ = ("run", "rank", "key")
    RUN_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    run: str
    rank: int
    key: str
    def __init__(self, run: _Optional[str] = ..., rank: _Optional[int] = ..., key: _Optional[str] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("mesh_address", "metrics_address", "setup_s", "parameters", "name")
    MESH_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    METRICS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SETUP_S_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    mesh_address: str
    metrics_address: str
    setup_s: float
    parameters: int
    name: str
    def __init__(self, mesh_address: _Optional[str] = ..., metrics_address: _Optional[str] = ..., setup_s: _Optional[float] = ..., parameters: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class Warmed(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Waiting(_message.Message):
    __slots__ = ("source", "round", "together")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TOGETHER_FIELD_NUMBER: _ClassVar[int]
    source: int
    round: int
    together: bool
    def __init__(self, source: _Optional[int] = ..., round: _Optional[int] = ..., together: _Optional[bool] = ...) -> None: ...

class CanLeave(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: int
    def __init__(self, step: _Optional[int] = ...) -> None: ...

class StateOffered(_message.Message):
    __slots__ = ("rank",)
    RANK_FIELD_NUMBER: _ClassVar[int]
    rank: int
    def __init__(self, rank: _Optional[int] = ...) -> None: ...

class StateFetched(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CanMeet(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: int
    def __init__(self, step: _Optional[int] = ...) -> None: ...

class AtMeeting(_message.Message):
    __slots__ = ("step", "rounds")
    STEP_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    step: int
    rounds: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, step: _Optional[int] = ..., rounds: _Optional[_Iterable[int]] = ...) -> None: ...

class Healed(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Step(_message.Message):
    __slots__ = ("step", "t_s", "loss", "compute_s", "wait_s", "other_s", "codec_bytes", "grpc_bytes", "interface_bytes", "missing")
    class LossEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STEP_FIELD_NUMBER: _ClassVar[int]
    T_S_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_S_FIELD_NUMBER: _ClassVar[int]
    WAIT_S_FIELD_NUMBER: _ClassVar[int]
    OTHER_S_FIELD_NUMBER: _ClassVar[int]
    CODEC_BYTES_FIELD_NUMBER: _ClassVar[int]
    GRPC_BYTES_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    step: int
    t_s: float
    loss: _containers.ScalarMap[str, float]
    compute_s: float
    wait_s: float
    other_s: float
    codec_bytes: int
    grpc_bytes: int
    interface_bytes: int
    missing: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, step: _Optional[int] = ..., t_s: _Optional[float] = ..., loss: _Optional[_Mapping[str, float]] = ..., compute_s: _Optional[float] = ..., wait_s: _Optional[float] = ..., other_s: _Optional[float] = ..., codec_bytes: _Optional[int] = ..., grpc_bytes: _Optional[int] = ..., interface_bytes: _Optional[int] = ..., missing: _Optional[_Iterable[int]] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("steps", "t_s", "memory_mb", "codec_bytes", "grpc_bytes", "interface_bytes")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    T_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    CODEC_BYTES_FIELD_NUMBER: _ClassVar[int]
    GRPC_BYTES_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_BYTES_FIELD_NUMBER: _ClassVar[int]
    steps: int
    t_s: float
    memory_mb: float
    codec_bytes: int
    grpc_bytes: int
    interface_bytes: int
    def __init__(self, steps: _Optional[int] = ..., t_s: _Optional[float] = ..., memory_mb: _Optional[float] = ..., codec_bytes: _Optional[int] = ..., grpc_bytes: _Optional[int] = ..., interface_bytes: _Optional[int] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("reason", "step", "not_finite")
    REASON_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    NOT_FINITE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    step: int
    not_finite: bool
    def __init__(self, reason: _Optional[str] = ..., step: _Optional[int] = ..., not_finite: _Optional[bool] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("sender", "receiver", "verdict", "detail")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    sender: int
    receiver: int
    verdict: str
    detail: str
    def __init__(self, sender: _Optional[int] = ..., receiver: _Optional[int] = ..., verdict: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ("assignment", "warm", "start", "stop_after", "peer_lost", "abort", "goodbye", "where_to_leave", "give_state", "fetch_state", "where_to_meet", "meet_at", "enter", "proceed", "cut_off", "heal", "leave_now", "received")
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    WARM_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_AFTER_FIELD_NUMBER: _ClassVar[int]
    PEER_LOST_FIELD_NUMBER: _ClassVar[int]
    ABORT_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    WHERE_TO_LEAVE_FIELD_NUMBER: _ClassVar[int]
    GIVE_STATE_FIELD_NUMBER: _ClassVar[int]
    FETCH_STATE_FIELD_NUMBER: _ClassVar[int]
    WHERE_TO_MEET_FIELD_NUMBER: _ClassVar[int]
    MEET_AT_FIELD_NUMBER: _ClassVar[int]
    ENTER_FIELD_NUMBER: _ClassVar[int]
    PROCEED_FIELD_NUMBER: _ClassVar[int]
    CUT_OFF_FIELD_NUMBER: _ClassVar[int]
    HEAL_FIELD_NUMBER: _ClassVar[int]
    LEAVE_NOW_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    assignment: Assignment
    warm: Warm
    start: Start
    stop_after: StopAfter
    peer_lost: PeerLost
    abort: Abort
    goodbye: Goodbye
    where_to_leave: WhereToLeave
    give_state: GiveState
    fetch_state: FetchState
    where_to_meet: WhereToMeet
    meet_at: MeetAt
    enter: Enter
    proceed: Proceed
    cut_off: CutOff
    heal: Heal
    leave_now: LeaveNow
    received: Received
    def __init__(self, assignment: _Optional[_Union[Assignment, _Mapping]] = ..., warm: _Optional[_Union[Warm, _Mapping]] = ..., start: _Optional[_Union[Start, _Mapping]] = ..., stop_after: _Optional[_Union[StopAfter, _Mapping]] = ..., peer_lost: _Optional[_Union[PeerLost, _Mapping]] = ..., abort: _Optional[_Union[Abort, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., where_to_leave: _Optional[_Union[WhereToLeave, _Mapping]] = ..., give_state: _Optional[_Union[GiveState, _Mapping]] = ..., fetch_state: _Optional[_Union[FetchState, _Mapping]] = ..., where_to_meet: _Optional[_Union[WhereToMeet, _Mapping]] = ..., meet_at: _Optional[_Union[MeetAt, _Mapping]] = ..., enter: _Optional[_Union[Enter, _Mapping]] = ..., proceed: _Optional[_Union[Proceed, _Mapping]] = ..., cut_off: _Optional[_Union[CutOff, _Mapping]] = ..., heal: _Optional[_Union[Heal, _Mapping]] = ..., leave_now: _Optional[_Union[LeaveNow, _Mapping]] = ..., received: _Optional[_Union[Received, _Mapping]] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("run", "rank", "world", "config_json", "checkpoint_bytes", "start_bytes", "start_sha256", "returning", "key", "certificate", "authority", "controller_grace_s")
    RUN_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    WORLD_FIELD_NUMBER: _ClassVar[int]
    CONFIG_JSON_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_BYTES_FIELD_NUMBER: _ClassVar[int]
    START_BYTES_FIELD_NUMBER: _ClassVar[int]
    START_SHA256_FIELD_NUMBER: _ClassVar[int]
    RETURNING_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    CONTROLLER_GRACE_S_FIELD_NUMBER: _ClassVar[int]
    run: str
    rank: int
    world: int
    config_json: str
    checkpoint_bytes: int
    start_bytes: int
    start_sha256: str
    returning: bool
    key: str
    certificate: bytes
    authority: bytes
    controller_grace_s: float
    def __init__(self, run: _Optional[str] = ..., rank: _Optional[int] = ..., world: _Optional[int] = ..., config_json: _Optional[str] = ..., checkpoint_bytes: _Optional[int] = ..., start_bytes: _Optional[int] = ..., start_sha256: _Optional[str] = ..., returning: _Optional[bool] = ..., key: _Optional[str] = ..., certificate: _Optional[bytes] = ..., authority: _Optional[bytes] = ..., controller_grace_s: _Optional[float] = ...) -> None: ...

class Warm(_message.Message):
    __slots__ = ("mesh_addresses", "names")
    MESH_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    mesh_addresses: _containers.RepeatedScalarFieldContainer[str]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, mesh_addresses: _Optional[_Iterable[str]] = ..., names: _Optional[_Iterable[str]] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Received(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class WhereToLeave(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopAfter(_message.Message):
    __slots__ = ("step", "shown")
    STEP_FIELD_NUMBER: _ClassVar[int]
    SHOWN_FIELD_NUMBER: _ClassVar[int]
    step: int
    shown: int
    def __init__(self, step: _Optional[int] = ..., shown: _Optional[int] = ...) -> None: ...

class LeaveNow(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: int
    def __init__(self, step: _Optional[int] = ...) -> None: ...

class CutOff(_message.Message):
    __slots__ = ("ranks", "reason")
    RANKS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ranks: _containers.RepeatedScalarFieldContainer[int]
    reason: str
    def __init__(self, ranks: _Optional[_Iterable[int]] = ..., reason: _Optional[str] = ...) -> None: ...

class Heal(_message.Message):
    __slots__ = ("ranks", "rounds")
    RANKS_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    ranks: _containers.RepeatedScalarFieldContainer[int]
    rounds: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ranks: _Optional[_Iterable[int]] = ..., rounds: _Optional[_Iterable[int]] = ...) -> None: ...

class GiveState(_message.Message):
    __slots__ = ("rank", "mesh_address", "name")
    RANK_FIELD_NUMBER: _ClassVar[int]
    MESH_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    rank: int
    mesh_address: str
    name: str
    def __init__(self, rank: _Optional[int] = ..., mesh_address: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class FetchState(_message.Message):
    __slots__ = ("neighbour", "mesh_addresses", "names")
    NEIGHBOUR_FIELD_NUMBER: _ClassVar[int]
    MESH_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    neighbour: int
    mesh_addresses: _containers.RepeatedScalarFieldContainer[str]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, neighbour: _Optional[int] = ..., mesh_addresses: _Optional[_Iterable[str]] = ..., names: _Optional[_Iterable[str]] = ...) -> None: ...

class WhereToMeet(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MeetAt(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: int
    def __init__(self, step: _Optional[int] = ...) -> None: ...

class Enter(_message.Message):
    __slots__ = ("step", "rounds", "t_s")
    STEP_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    T_S_FIELD_NUMBER: _ClassVar[int]
    step: int
    rounds: _containers.RepeatedScalarFieldContainer[int]
    t_s: float
    def __init__(self, step: _Optional[int] = ..., rounds: _Optional[_Iterable[int]] = ..., t_s: _Optional[float] = ...) -> None: ...

class Proceed(_message.Message):
    __slots__ = ("step", "rounds", "returned", "mesh_address", "name")
    STEP_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    MESH_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    step: int
    rounds: _containers.RepeatedScalarFieldContainer[int]
    returned: int
    mesh_address: str
    name: str
    def __init__(self, step: _Optional[int] = ..., rounds: _Optional[_Iterable[int]] = ..., returned: _Optional[int] = ..., mesh_address: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class PeerLost(_message.Message):
    __slots__ = ("rank", "reason")
    RANK_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    rank: int
    reason: str
    def __init__(self, rank: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Abort(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: SnapshotHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[SnapshotHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class SnapshotHeader(_message.Message):
    __slots__ = ("run", "rank", "step", "t_s", "codec_bytes", "bytes", "crc32", "checkpoint", "key")
    RUN_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    T_S_FIELD_NUMBER: _ClassVar[int]
    CODEC_BYTES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    run: str
    rank: int
    step: int
    t_s: float
    codec_bytes: int
    bytes: int
    crc32: int
    checkpoint: bool
    key: str
    def __init__(self, run: _Optional[str] = ..., rank: _Optional[int] = ..., step: _Optional[int] = ..., t_s: _Optional[float] = ..., codec_bytes: _Optional[int] = ..., bytes: _Optional[int] = ..., crc32: _Optional[int] = ..., checkpoint: _Optional[bool] = ..., key: _Optional[str] = ...) -> None: ...

class RestoreRequest(_message.Message):
    __slots__ = ("key", "rank", "start")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    key: str
    rank: int
    start: bool
    def __init__(self, key: _Optional[str] = ..., rank: _Optional[int] = ..., start: _Optional[bool] = ...) -> None: ...

class CheckpointChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class DepositReceipt(_message.Message):
    __slots__ = ("accepted", "detail")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    detail: str
    def __init__(self, accepted: _Optional[bool] = ..., detail: _Optional[str] = ...) -> None: ...
