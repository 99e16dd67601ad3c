"""Requests to JetStream, and their answers: what a journal uses of them.

https://github.com/nats-io/nats-architecture-and-design has all of them.
"""

from typing import Final

import msgspec

_PREFIX: Final = "$JS.API."
NOT_FOUND: Final = frozenset({10037, 10059})  # no such message, no such stream
NAME_IN_USE: Final = 10058  # a stream of this name with other settings
NOT_ENABLED: Final = frozenset({10039, 10076})  # for this account, or at all
WRONG_LAST: Final = frozenset({10071, 10164})  # the newest message is not the expected one
NO_SPACE: Final = frozenset({10002, 10023, 10028, 10047, 10077})  # of the account, the server, or the stream
TEMPORARY: Final = frozenset({10005, 10008})  # no peers, or no leader, at the moment


class ApiError(msgspec.Struct, frozen=True):
    description: str = ""
    err_code: int = 0


class StreamConfig(msgspec.Struct, frozen=True):
    name: str = ""
    subjects: list[str] = []
    num_replicas: int = 1
    retention: str = "limits"
    discard: str = "new"  # a full stream refuses, and deletes nothing
    storage: str = "file"
    max_msgs: int = -1
    max_bytes: int = -1
    max_age: int = 0
    max_msg_size: int = -1
    max_msgs_per_subject: int = -1
    sealed: bool = False
    allow_direct: bool = True
    first_seq: int = 0


class StreamState(msgspec.Struct, frozen=True):
    first_seq: int
    last_seq: int


class ClusterInfo(msgspec.Struct, frozen=True):
    leader: str = ""
    leader_since: str = ""


class StoredMessage(msgspec.Struct, frozen=True):
    seq: int
    data: bytes = b""  # base64 in JSON


class Answer(msgspec.Struct, frozen=True):
    """To any request. `seq`: of a message that was published. `config`: of a stream."""

    error: ApiError | None = None
    seq: int = 0
    config: StreamConfig | None = None
    created: str = ""
    state: StreamState = StreamState(0, 0)
    cluster: ClusterInfo | None = None
    message: StoredMessage | None = None


class ConsumerConfig(msgspec.Struct, frozen=True):
    """Of a reader that gets each message once, in order, and disappears with its connection."""

    deliver_subject: str
    opt_start_seq: int
    deliver_policy: str = "by_start_sequence"
    ack_policy: str = "none"
    max_deliver: int = 1
    flow_control: bool = True
    idle_heartbeat: int = 5_000_000_000  # nanoseconds; flow control needs one
    num_replicas: int = 1
    mem_storage: bool = True


class CreateConsumer(msgspec.Struct, frozen=True):
    stream_name: str
    config: ConsumerConfig


class LastMessage(msgspec.Struct, frozen=True):
    last_by_subj: str


class Purge(msgspec.Struct, frozen=True, omit_defaults=True):
    """The messages before `seq`, of one subject or, if `filter` is empty, of all."""

    seq: int = 0
    filter: str = ""


ACCOUNT: Final = _PREFIX + "INFO"


def create_stream(name: str) -> str:
    return f"{_PREFIX}STREAM.CREATE.{name}"


def stream_info(name: str) -> str:
    return f"{_PREFIX}STREAM.INFO.{name}"


def purge(name: str) -> str:
    return f"{_PREFIX}STREAM.PURGE.{name}"


def get_message(name: str) -> str:
    return f"{_PREFIX}STREAM.MSG.GET.{name}"


def get_directly(name: str, subject: str) -> str:
    return f"{_PREFIX}DIRECT.GET.{name}.{subject}"


def create_consumer(name: str) -> str:
    return f"{_PREFIX}CONSUMER.CREATE.{name}"


encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder(Answer).decode
