"""What the server does, and who uses it."""

import msgspec

from .records import Records


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


class Attention(msgspec.Struct, frozen=True, omit_defaults=True):
    """A matter that needs attention. `kind` is for programs, `text` for people. `topic` and `group`: of a matter of one
    group; `count`: of its messages, or of disconnected subscribers."""

    kind: str
    text: str
    topic: str | None = None
    group: str | None = None
    count: int | None = None


class Stats(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a server does `now` (None: its engine does not answer), and what needs `attention`, the most urgent first:
    at most 30 of `attention_total` matters. `history`: samples before it, if requested."""

    server: ServerState
    now: Sample | None
    attention: list[Attention] = []
    attention_total: int = 0
    history: list[Sample] = []


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
    """Who listens and works, to iterate over. `next` is the `after` of the page that follows; None if there is none.
    `total`: how many all pages have together."""

    subscribers: list[Attendee]
    next: int | None
    total: int = 0


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


class OtherLimit(msgspec.Struct, frozen=True):
    """A limit that is in force on a shared log, and is not that of this server's settings."""

    setting: str
    own: float
    in_force: float


class JournalState(msgspec.Struct, frozen=True):
    """The journal that several servers share, as this one sees it. `node`: its name for the others, in this run;
    `nodes`: those that are alive. `entry`: the newest one that it has carried out. `lag_seconds`: from sending an entry
    until it was carried out. `forks` to `digest_mismatches` count since the server's start. `level`: of what commands
    mean."""

    node: str
    connected: bool
    entry: int
    nodes: list[str]
    lag_entries: int
    lag_seconds: float
    forks: int
    resyncs: int
    healed_entries: int
    digest_mismatches: int
    level: int
    other_limits: list[OtherLimit] = []


class ServerInfo(msgspec.Struct, frozen=True):
    """`unready`: why the server accepts no messages; None while it does. `journal`: None if the server shares none."""

    version: str
    engine: str
    durability: str
    epoch: str
    started: str
    limits: list[LimitInUse]
    settings: list[SettingInForce]
    draining: bool = False
    unready: str | None = None
    journal: JournalState | None = None
