"""What a worker and the supervisor say to each other."""

from collections.abc import Sequence

import msgspec

from ...broker.siblings import Question
from ..banner import Started


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The worker accepts connections."""

    started: Started


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The worker cannot start. `code` and `detail` are those of the error."""

    code: str
    detail: str


class Leaving(msgspec.Struct, frozen=True, tag=True):
    """The worker drains, and ends by itself."""


class Ask(msgspec.Struct, frozen=True, tag=True):
    """The worker's own answer to a question, to be merged with those of the others."""

    number: int
    question: Question
    own: bytes
    about: bytes


class Answer(msgspec.Struct, frozen=True, tag=True):
    number: int
    data: bytes


class Accept(msgspec.Struct, frozen=True, tag=True):
    """Accept connections from the sockets at these places and no others."""

    places: Sequence[int]


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Drain and end."""


class Reload(msgspec.Struct, frozen=True, tag=True):
    """Read the files again, as on SIGHUP."""


class Tell(msgspec.Struct, frozen=True, tag=True):
    """Somebody asks: the worker's part is wanted."""

    number: int
    question: Question
    about: bytes


class Merged(msgspec.Struct, frozen=True, tag=True):
    """The merged answers to what the worker asked."""

    number: int
    data: bytes


FromWorker = Ready | Failed | Leaving | Ask | Answer
ToWorker = Accept | Stop | Reload | Tell | Merged
