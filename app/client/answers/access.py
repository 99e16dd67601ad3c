"""What a client may do, and the tokens of the server."""

import msgspec

from .records import Records


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
