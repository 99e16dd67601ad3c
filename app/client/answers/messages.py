"""Messages, and the answers to publishing and reading them."""

from typing import Any

import msgspec

from .records import Records


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


class Line(msgspec.Struct, frozen=True):
    """A retained message as the server wrote it, in JSON without a line end."""

    id: str
    text: bytes
