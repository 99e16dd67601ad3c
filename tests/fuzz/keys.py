"""A key that tokens are signed with here, and the authenticator's view of it."""

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Final

from app.access.jwt_keys import Expected, JwtKeys, Key

SECRET: Final = b"a secret of tests, of 32 bytes or more"
KEYS: Final = JwtKeys([Key("HS256", SECRET)], Expected())


def signed(head: bytes, claims: bytes) -> str:
    """A token of these bytes with a good signature (RFC 7515, section 7.1), whatever they are."""
    said = b".".join(map(_base64url, (head, claims)))
    return b".".join((said, _base64url(hmac.digest(SECRET, said, sha256)))).decode()


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
