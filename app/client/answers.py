"""What a server answers its clients, as types: read from the wire and from nothing of the server's code, so that they
also understand an older or newer server.

ClientError
├── Unreachable      no answer: no connection, or it broke
├── Untrusted        the server's certificate is not one that can be trusted; nothing was sent
└── RequestRefused   the server said no; `code` is for programs and stable
"""

import msgspec


class ClientError(Exception):
    """The text is a sentence for people."""


class Unreachable(ClientError):
    """No answer: no connection, or it broke. After a publish the message may have been stored or not."""


class Untrusted(ClientError):
    """The server's certificate is not one that can be trusted, or is another's. Nothing was sent."""


class RequestRefused(ClientError):
    """The server said no, and stored nothing; a `code` such as `http_502` is another's answer, after which that is not
    known. `status` is HTTP's."""

    def __init__(self, code: str, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.status = status


class Published(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a publish: the message's id, its place in its topic, how many live subscribers were handed it, and
    how durable it is. `last` and `count` are a batch's; `duplicate`: its key was known, and nothing was stored now."""

    id: str
    topic: str
    index: int
    subscribers: int
    durability: str
    last: str | None = None
    count: int | None = None
    duplicate: bool = False


class Scheduled(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a delayed publish: how many messages get their place in the log at `due` (RFC 3339)."""

    scheduled: int
    due: str
    topic: str
    durability: str
    duplicate: bool = False


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message as it was received. `time` is RFC 3339; `data` the body's bytes, `text` the same when it is UTF-8."""

    id: str
    topic: str
    index: int
    time: str
    event: str | None
    content_type: str
    text: str | None = msgspec.field(default=None, name="data")
    binary: bytes | None = msgspec.field(default=None, name="data_base64")

    @property
    def data(self) -> bytes:
        return self.text.encode() if self.text is not None else self.binary or b""


class Gap(msgspec.Struct, frozen=True):
    """Messages after `requested` are gone: `trimmed`, another `epoch` of the log, or an id `ahead` of it. `missed` of
    them (None: not known); it goes on at `resumes_at` (None: nothing older is retained)."""

    requested: str
    reason: str
    missed: int | None
    resumes_at: str | None

    @property
    def sentence(self) -> str:
        many = "messages" if self.missed is None else f"{self.missed} messages"
        goes_on = f"it goes on at {self.resumes_at}" if self.resumes_at else "nothing older is retained"
        return f"{many} after {self.requested} are gone ({self.reason}); {goes_on}"


class Line(msgspec.Struct, frozen=True):
    """A retained message as the server wrote it: JSON, without a line end."""

    id: str
    text: bytes
