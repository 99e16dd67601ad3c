"""The jobs of a group: leased, or seen without a lease."""

from typing import Literal

import msgspec

from .messages import Death, Gap, Message
from .records import Records

Result = Literal["done", "expired", "unknown"]
JobState = Literal["ready", "leased", "delayed", "dead"]


class Job(Message, frozen=True, kw_only=True):
    """A message that is leased to one worker of a group. `attempt` counts its leases; `lease` is the id of this one,
    which ends at `lease_expires`."""

    attempt: int
    lease: str
    lease_expires: str


class Jobs(Records[Job], frozen=True):
    """Pulled jobs, to iterate over. `gap`: messages that were gone already when the group was created."""

    messages: list[Job]
    gap: Gap | None = None


class Settled(msgspec.Struct, frozen=True):
    """The result for each id."""

    results: dict[str, Result]


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


class Redriven(msgspec.Struct, frozen=True):
    """How many dead messages are back in their group, how many of its dead are left, and what became of each id."""

    redriven: int
    left: int
    results: dict[str, Result] = {}
