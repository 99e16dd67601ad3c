"""The answers of a server, as types.

They follow the wire format and share no code with the server, so they also fit an older or newer one. Times are RFC
3339: `datetime.fromisoformat` reads them."""

from collections.abc import Iterator
from typing import Any, Generic, Literal, TypeVar

import msgspec

T = TypeVar("T")

Result = Literal["done", "expired", "unknown"]
TopicSort = Literal["name", "-messages", "-bytes", "-delayed", "-rate"]
GroupSort = Literal["name", "-lag", "-leased", "-delayed", "-dead", "-rate"]
JobState = Literal["ready", "leased", "delayed", "dead"]


class Records(msgspec.Struct, Generic[T], frozen=True):
    """An answer to iterate over: its first field has the records."""

    @property
    def _records(self) -> list[T]:
        records: list[T] = getattr(self, self.__struct_fields__[0])
        return records

    def __iter__(self) -> Iterator[T]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


class Published(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a publish: the message's id, its position in its topic, the number of live subscribers that it was
    delivered to, and how durable it is (`memory`, `disk` or `disk:relaxed`). Batches have `last` (id) and `count`.
    `duplicate`: its idempotency key was known, so nothing was stored now."""

    id: str
    topic: str
    index: int
    subscribers: int
    durability: str
    last: str | None = None
    count: int | None = None
    duplicate: bool = False


class Scheduled(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a delayed publish: `scheduled` messages are appended to the log at `due`."""

    scheduled: int
    due: str
    topic: str
    durability: str
    duplicate: bool = False
    id: str = ""


class ScheduledPublish(msgspec.Struct, frozen=True):
    """What is scheduled, and can be published now or cancelled: `scheduled` messages, of `size` bytes, that are
    published at `due`. `text`, `binary` and `headers` are those of the first message, if the token may read them; of a
    long body (`truncated`) they are the beginning."""

    id: str
    topic: str
    due: str
    scheduled: int
    size: int
    event: str | None
    content_type: str
    delivery: str
    ttl: str | None
    headers: dict[str, str] = {}
    priority: int = 0
    key: str | None = None
    text: str | None = msgspec.field(default=None, name="data")
    binary: bytes | None = msgspec.field(default=None, name="data_base64")
    truncated: bool = False


class ScheduledPage(Records[ScheduledPublish], frozen=True):
    """What is scheduled, by its due time, to iterate over. `next` is the `after` of the page that follows; None if
    there is none."""

    scheduled: list[ScheduledPublish]
    next: str | None


class Death(msgspec.Struct, frozen=True):
    """The origin of a message in a dead-letter topic, and the reason why its group gave it up."""

    id: str
    topic: str
    group: str
    attempts: int
    reason: str
    first_failure: str
    last_failure: str


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """A received message. `data` is the body as bytes, and `text` the same as a str, if it is UTF-8. `index` is its
    position in its topic, `time` when the server accepted it, `headers` what its publisher kept with it, and `dead` its
    origin, in a dead-letter topic. Groups hand out a higher `priority` first, and messages with one `key` one at a
    time."""

    id: str
    topic: str
    index: int
    time: str
    event: str | None
    content_type: str
    text: str | None = msgspec.field(default=None, name="data")
    binary: bytes | None = msgspec.field(default=None, name="data_base64")
    headers: dict[str, str] = {}
    priority: int = 0
    key: str | None = None
    dead: Death | None = None
    original: str | None = None

    @property
    def data(self) -> bytes:
        return self.text.encode() if self.text is not None else self.binary or b""

    def json(self) -> Any:
        """Parse the body as JSON. Raises ValueError."""
        return msgspec.json.decode(self.data)


class Job(Message, frozen=True, kw_only=True):
    """A message that is leased to one worker of a group. `attempt` counts its leases; `lease` is the id of this one,
    which ends at `lease_expires`."""

    attempt: int
    lease: str
    lease_expires: str


class JobRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message of a group, seen without taking it. `state`: `ready`, `leased`, `delayed` or `dead`. `size`: bytes of
    the body; `text` or `binary` is missing without the right to subscribe, and only the beginning if `truncated`.
    `since` to `until` `consumer` has the `lease`; `due`: when a delayed one is ready again; `reason`: of its last
    failure. Of a dead one, `original` is the id of the message that died."""

    id: str
    topic: str
    index: int
    time: str
    event: str | None
    content_type: str
    size: int
    state: str
    text: str | None = msgspec.field(default=None, name="data")
    binary: bytes | None = msgspec.field(default=None, name="data_base64")
    truncated: bool = False
    headers: dict[str, str] = {}
    priority: int = 0
    key: str | None = None
    dead: Death | None = None
    original: str | None = None
    attempt: int = 0
    lease: str | None = None
    since: str | None = None
    until: str | None = None
    consumer: str | None = None
    due: str | None = None
    reason: str | None = None
    first_failure: str | None = None
    last_failure: str | None = None


class JobPage(Records[JobRecord], frozen=True):
    """Messages of a group, in the order of the log, to iterate over. `next` is the `after` of the page that follows;
    None if there is none."""

    jobs: list[JobRecord]
    next: str | None


class Gap(msgspec.Struct, frozen=True):
    """Messages after the id `requested` are gone. `reason`: `trimmed` by retention, another `epoch` of the log, or the
    id is `ahead` of the log. `missed`: how many (None: not known). Reading continues at `resumes_at` (None: nothing
    older is retained)."""

    requested: str
    reason: str
    missed: int | None
    resumes_at: str | None

    @property
    def sentence(self) -> str:
        many = "messages" if self.missed is None else f"{self.missed} messages"
        goes_on = f"it goes on at {self.resumes_at}" if self.resumes_at else "nothing older is retained"
        return f"{many} after {self.requested} are gone ({self.reason}); {goes_on}"


class Page(Records[Message], frozen=True):
    """Messages of a topic or pattern, oldest first, to iterate over. `next` is the `since` of the next page. `gap`:
    requested messages that are gone."""

    messages: list[Message]
    next: str
    gap: Gap | None = None


class Jobs(Records[Job], frozen=True):
    """Pulled jobs, to iterate over. `gap`: messages that were gone already when the group was created."""

    messages: list[Job]
    gap: Gap | None = None


class Settled(msgspec.Struct, frozen=True):
    """The result for each id."""

    results: dict[str, Result]


class Purged(msgspec.Struct, frozen=True):
    """How many messages were deleted."""

    purged: int


class Redriven(msgspec.Struct, frozen=True):
    """How many dead messages are back in their group, how many of its dead are left, and what became of each id."""

    redriven: int
    left: int
    results: dict[str, Result] = {}


class Retention(msgspec.Struct, frozen=True):
    """How much of a topic is retained. `max_age` is a duration such as `1d`."""

    max_messages: int
    max_bytes: int
    max_age: str


class TopicState(msgspec.Struct, frozen=True):
    """The state of a topic. `first` and `last` are ids of retained messages, `bytes` is the size of their bodies,
    `delayed` the number of delayed messages, `groups` the names of the groups, and `rate` the messages accepted a
    second."""

    topic: str
    messages: int
    bytes: int
    delayed: int
    first: str | None
    last: str | None
    subscribers: int
    groups: list[str]
    retention: Retention
    rate: float = 0.0
    paused: bool = False


class TopicPage(Records[TopicState], frozen=True):
    """Topics, to iterate over. `next` is the `after` of the page that follows; None if there is none."""

    topics: list[TopicState]
    next: str | None = None


class Oldest(msgspec.Struct, frozen=True):
    """The oldest message that is not acked, and when the server accepted it."""

    id: str
    time: str


class DeadLetters(msgspec.Struct, frozen=True):
    """How much a dead-letter topic stores and may store. `waiting`: dead messages of the group that wait for space."""

    kept: int
    bytes: int
    max_messages: int
    max_bytes: int
    waiting: int
    redrivable: int


class GroupState(msgspec.Struct, frozen=True):
    """The state of a group: its messages in each state (`lag`: ready, leased and delayed together), and its settings.
    `ack_timeout` is a duration such as `30s`, and `rate` the number of acks a second."""

    topic: str
    group: str
    lag: int
    ready: int
    leased: int
    delayed: int
    acked: int
    dead: int
    skipped: int
    position: str
    paused: bool
    oldest: Oldest | None
    gap: Gap | None
    workers: int
    start: str
    ack_timeout: str
    max_deliveries: int
    dead_letter: str
    dead_letters: DeadLetters
    rate: float = 0.0


class GroupPage(Records[GroupState], frozen=True):
    """Groups, to iterate over. `next` is the `after` of the page that follows; None if there is none."""

    groups: list[GroupState]
    next: str | None


class Attendee(msgspec.Struct, frozen=True):
    """Who listens (`state`: `live` or `catching_up`, up to `position`) or works (in `group`, with so many messages
    `leased`). `kind`: `stream`, `line`, `read` or `worker`; `who`: a token's name or an address."""

    id: int
    kind: str
    who: str
    since: str
    topics: list[str]
    state: str | None = None
    position: str | None = None
    group: str | None = None
    leased: int | None = None


class SubscriberPage(Records[Attendee], frozen=True):
    """Who listens and works, to iterate over. `next` is the `after` of the page that follows; None if there is none."""

    subscribers: list[Attendee]
    next: int | None


class Sample(msgspec.Struct, frozen=True):
    """What a server does at one moment. `published` to `refused` are rates, a second. `subscribers` includes
    `consumers`. `ready` to `dead` count messages over all groups. `memory` counts against `memory_limit`, in bytes.
    `loop_delay` and `commit_time` (None: no commits) are in seconds. `evicted` to `engine_failures` count since the
    server's start."""

    time: str
    published: float
    delivered: float
    acked: float
    refused: float
    subscribers: int
    consumers: int
    connections: int
    topics: int
    messages: int
    bytes: int
    groups: int
    ready: int
    leased: int
    delayed: int
    dead: int
    memory: int
    memory_limit: int
    loop_delay: float
    commit_time: float | None
    evicted: int
    gaps: int
    engine_failures: int


class ServerState(msgspec.Struct, frozen=True):
    """`started`: when. `draining`: it is stopping. `unready`: why it accepts no messages, in words."""

    version: str
    epoch: str
    durability: str
    started: str
    draining: bool
    unready: str | None


class Stats(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a server does `now` (None: its engine does not answer). `history`: samples before it, if requested."""

    server: ServerState
    now: Sample | None
    history: list[Sample] = []


class Session(msgspec.Struct, frozen=True):
    """Who the client is to the server: the `name` of its token (None where no token is required), and for each right
    the topics and patterns that it applies to."""

    name: str | None
    anonymous: bool
    expires: str | None
    rights: dict[str, list[str]]


class Ticket(msgspec.Struct, frozen=True):
    """Opens one stream without a token, in the query `ticket`, until `expires`: for an EventSource in a browser."""

    ticket: str
    expires: str


class Token(msgspec.Struct, frozen=True):
    """A token of the server's file: for each right the topics and patterns it applies to, and when it `expires` (None:
    never). `stored`: False for one that ends with the server; `own`: it is the client's."""

    name: str
    publish: list[str]
    subscribe: list[str]
    consume: list[str]
    admin: list[str]
    view: list[str]
    expires: str | None
    stored: bool = True
    own: bool = False


class NewToken(Token, frozen=True, kw_only=True):
    """A token that was created: only here it is shown."""

    token: str


class TokenPage(Records[Token], frozen=True):
    """Tokens by name, to iterate over. `next` is the `after` of the page that follows; None if there is none."""

    tokens: list[Token]
    next: str | None


class LimitInUse(msgspec.Struct, frozen=True):
    """How full a limit is, in `bytes` or as a `count`. `setting`: the one that changes it."""

    name: str
    used: int
    limit: int
    unit: str = "count"
    setting: str | None = None


class SettingInForce(msgspec.Struct, frozen=True):
    """`source`: where the value comes from: `default`, `.env`, `environment` or `flag`."""

    name: str
    value: str
    source: str
    help: str


class ServerInfo(msgspec.Struct, frozen=True):
    """`unready`: why the server accepts no messages; None while it does."""

    version: str
    engine: str
    durability: str
    epoch: str
    started: str
    limits: list[LimitInUse]
    settings: list[SettingInForce]
    draining: bool = False
    unready: str | None = None


class Line(msgspec.Struct, frozen=True):
    """A retained message as the server wrote it, in JSON without a line end."""

    id: str
    text: bytes
