"""The key that signs the tokens of these tests."""

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Final

from app.access.jwt_keys import Expected, JwtKeys, Key

SECRET: Final = b"a secret of tests, of 32 bytes or more"
KEYS: Final = JwtKeys([Key("HS256", SECRET)], Expected())


def signed(head: bytes, claims: bytes) -> str:
    """A token with these bytes, whatever they are, and a valid signature (RFC 7515, section 7.1)."""
    signing_input = b".".join(map(_base64url, (head, claims)))
    signature = hmac.digest(SECRET, signing_input, sha256)
    return b".".join((signing_input, _base64url(signature))).decode()


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
