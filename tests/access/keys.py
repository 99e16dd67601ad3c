"""Keys for tests, made once: what a server is given, and what its tokens are signed with, rightly and wrongly."""

import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

SECRET: Final = "a secret of tests, long enough for every hash, of which anybody may know all"
AUDIENCE, ISSUER = "plainmq", "the tests"
ALL: Final = {right: ["**"] for right in ("publish", "subscribe", "consume", "admin", "view")}


def private(kind: str, which: int = 0) -> Any:
    """The private key number `which` for the algorithm."""
    return _made(kind, which)


@cache
def _made(kind: str, which: int) -> Any:  # noqa: ARG001
    match kind:
        case "RS256":
            return rsa.generate_private_key(65537, 2048)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def public_pem(kind: str, which: int = 0) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    pem: bytes = private(kind, which).public_key().public_bytes(encoding, form)
    return pem


def private_pem(key: Any) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    pem: bytes = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return pem


def put(path: Path, data: bytes) -> Path:
    """The file, for its owner only."""
    path.touch(0o600)
    path.chmod(0o600)
    path.write_bytes(data)
    return path


def claims(**changes: Any) -> dict[str, Any]:
    """Good ones, with these changes; None takes one out."""
    every = {"sub": "somebody", "aud": AUDIENCE, "iss": ISSUER, "exp": int(time.time()) + 3_600, **ALL} | changes
    return {name: value for name, value in every.items() if value is not None}


def signed(claims: Mapping[str, Any], key: Any = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    return jwt.encode(dict(claims), key, algorithm, headers or None)
