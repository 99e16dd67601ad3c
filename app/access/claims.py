"""The claims of a token, in the token file or in a JWT. Parsed, they become a Grant."""

from typing import Annotated, Any, Final, TypeVar

import msgspec

from ..errors import OptionInvalid, PlainmqError, Unauthorised
from ..errors.wording import in_words
from .grant import EVERYTHING, Grant, Patterns, Right

MAX_NAME: Final = 128
LEEWAY: Final = 5.0  # seconds, for the difference between the clocks (RFC 7519, section 4.1.4)

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME, pattern=r"^[!-~]+\Z")]
Time = Annotated[float, msgspec.Meta(ge=0, lt=1e11)]  # Unix seconds, as in RFC 7519


class Rights(msgspec.Struct, kw_only=True, omit_defaults=True):
    """For each right, the topics and patterns it holds for."""

    publish: list[str] = []
    subscribe: list[str] = []
    consume: list[str] = []
    admin: list[str] = []
    view: list[str] = []

    def grant(self, name: str, expires: float | None) -> Grant:
        """Raises TopicInvalid, OptionInvalid."""
        held: dict[str, Any] = {right: Patterns.parse(getattr(self, right)) for right in Right}
        return Grant(name, **held, expires=expires)


class ClaimsInvalid(OptionInvalid):
    """Has the code of its base class."""


R = TypeVar("R", bound=Rights)


def checked(claims: R) -> R:
    """The claims, if they can be read back. Raises ClaimsInvalid."""
    try:
        claims.grant("", None)
        return msgspec.convert(msgspec.to_builtins(claims), type(claims))
    except (msgspec.ValidationError, PlainmqError) as error:
        raise ClaimsInvalid(f"there can be no such token: {in_words(error)}") from None


class Signed(Rights):
    """The claims of a JWT. Other claims are ignored."""

    sub: Name
    exp: Time
    nbf: Time | None = None

    def checked(self, now: float) -> Grant:
        """Raises Unauthorised."""
        until = self.exp + LEEWAY
        if until <= now:
            raise Unauthorised("the token has expired")
        if self.nbf is not None and self.nbf > now + LEEWAY:
            raise Unauthorised("the token is not valid yet")
        try:
            return self.grant(self.sub, until)
        except PlainmqError as error:
            raise Unauthorised(f"the token's rights cannot be read: {error}") from None


def every_right() -> Rights:
    return Rights(**{right: [EVERYTHING] for right in Right})
