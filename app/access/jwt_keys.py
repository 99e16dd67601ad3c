"""JSON Web Tokens (RFC 7519). The settings fix one algorithm for each key. The token's header can only match it; it
does not choose.

The file of a key holds a secret of at least 32 bytes (HS256), or a public key in PEM (RS256, ES256, EdDSA or Ed25519).
`plainmq token` signs with the private key.
"""

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..errors import PlainmqError, Unauthorised
from ..errors.wording import in_words
from ..net.regular_file import read_regular
from ..settings.values import listed
from .claims import Rights, Signed, checked
from .grant import Grant
from .private_files import read_private

MIN_SECRET: Final = 32  # bytes: as many as the hash has, RFC 7518, section 3.2
MIN_RSA: Final = 2_048  # bits, RFC 7518, section 3.3
MAX_KEYS: Final = 8  # each may be tried for a token
ALGORITHMS: Final = ("HS256", "RS256", "ES256", "EdDSA", "Ed25519")
ED25519: Final = "Ed25519"  # what RFC 9864 calls EdDSA with such a key; a token may say either

_PUBLIC: Final = PublicFormat.SubjectPublicKeyInfo
_OPTIONS: Final[Any] = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_sub": False}
# Times are checked against our own clock (app/access/claims.py). `iat` refuses nothing: RFC 7519 has no such rule.


if ED25519 not in jwt.algorithms.get_default_algorithms():
    jwt.register_algorithm(ED25519, jwt.algorithms.OKPAlgorithm())


class KeyInvalid(PlainmqError):
    code = "key_invalid"


class Key(msgspec.Struct, frozen=True):
    """`key` is what PyJWT has made of the file."""

    algorithm: str
    key: Any

    @property
    def names(self) -> Collection[str]:
        """What the head of a token may call its algorithm."""
        return ("EdDSA", ED25519) if isinstance(self.key, Ed25519PublicKey) else (self.algorithm,)

    @property
    def fingerprint(self) -> bytes:
        """Different for each key, and the same as long as it is the same key."""
        data = self.key if isinstance(self.key, bytes) else self.key.public_bytes(Encoding.DER, _PUBLIC)
        return sha256(self.algorithm.encode() + b":" + data).digest()


class Expected(msgspec.Struct, frozen=True):
    """The expected audience and issuer of a token; empty: not checked."""

    audience: str = ""
    issuer: str = ""


class JwtKeys:
    """The keys that may sign tokens."""

    def __init__(self, keys: Sequence[Key], expected: Expected) -> None:
        self._keys = {key.fingerprint: key for key in keys}
        self._expected = expected

    @property
    def origins(self) -> Collection[bytes]:
        """The `origin` of the grants of each key: its fingerprint."""
        return self._keys.keys()

    def verify(self, token: str, now: float) -> Grant:
        """The grant of a token. It costs one signature for each key with the token's algorithm, so it can run before
        failures are counted. Raises Unauthorised."""
        named = _algorithm(token)
        for origin, key in self._keys.items():
            if named in key.names and (payload := self._verified_claims(token, key)) is not None:
                return self._grant(payload, origin, now)
        raise Unauthorised("the token is not one of this server's, or not for it")

    def _grant(self, payload: Mapping[str, Any], origin: bytes, now: float) -> Grant:
        try:
            claims = msgspec.convert(payload, Signed)
        except msgspec.ValidationError as error:
            raise Unauthorised(f"the token's claims cannot be read: {in_words(error)}") from None
        return msgspec.structs.replace(claims.checked(now), origin=origin)

    def _verified_claims(self, token: str, key: Key) -> Mapping[str, Any] | None:
        """The claims, if this key signed them and audience and issuer match."""
        audience, issuer = self._expected.audience or None, self._expected.issuer or None
        try:
            return jwt.decode(token, key.key, [*key.names], _OPTIONS, audience=audience, issuer=issuer)
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None


def _algorithm(token: str) -> object:
    """The algorithm in the token's header."""
    try:
        return jwt.get_unverified_header(token).get("alg")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None


def read_key(text: str, private: bool = False) -> Key:
    """Read the key of `HS256:/etc/plainmq/secret`; a public key unless `private`. Raises KeyInvalid."""
    algorithm, _, path = text.partition(":")
    if algorithm not in ALGORITHMS or not path:
        raise KeyInvalid(f"{text!r} is not a key: expected ALGORITHM:PATH, of {', '.join(ALGORITHMS)}")
    secret = algorithm == "HS256"
    data = read_private(Path(path)) if secret or private else _read(Path(path))
    if secret:
        return Key(algorithm, _checked_secret(data.rstrip(b"\r\n"), path))
    return Key(algorithm, _checked_pem(algorithm, data, private, path))


def _read(path: Path) -> bytes:
    try:
        return read_regular(path)[0]
    except OSError as error:
        raise KeyInvalid(f"the key {path} cannot be read: {error.strerror}") from None


def _checked_secret(secret: bytes, path: str) -> bytes:
    if len(secret) < MIN_SECRET:
        raise KeyInvalid(
            f"the secret in {path} has {len(secret)} bytes: expected at least {MIN_SECRET} random ones, "
            f"such as those of: openssl rand -base64 32"
        )
    return secret if isinstance(_prepared("HS256", secret, path), bytes) else b""


def _is_key_type_for(key: Any, algorithm: str) -> bool:
    return algorithm != ED25519 or isinstance(key, (Ed25519PublicKey, Ed25519PrivateKey))


def _checked_pem(algorithm: str, data: bytes, private: bool, path: str) -> Any:
    key = _prepared(algorithm, data, path)
    if private != hasattr(key, "public_key"):
        kind = ("public", "private") if private else ("private", "public")
        raise KeyInvalid(f"{path} holds a {kind[0]} key: expected the {kind[1]} one")
    if not _is_key_type_for(key, algorithm):
        raise KeyInvalid(f"{path} does not hold a key for {algorithm}")
    if algorithm == "RS256" and key.key_size < MIN_RSA:
        raise KeyInvalid(f"the key in {path} has {key.key_size} bits: expected at least {MIN_RSA}")
    return key


def _prepared(algorithm: str, data: bytes, path: str) -> Any:
    try:
        return jwt.get_algorithm_by_name(algorithm).prepare_key(data)
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
        raise KeyInvalid(f"{path} does not hold a key for {algorithm}") from None


def read_keys(text: str, expected: Expected) -> JwtKeys:
    """Read all keys of a setting, which are separated by commas. Raises KeyInvalid, FileInvalid."""
    keys, wrong = read_usable_keys(text, expected)
    if wrong is not None:
        raise wrong
    return keys


def read_usable_keys(text: str, expected: Expected) -> tuple[JwtKeys, PlainmqError | None]:
    """Read the keys that are usable, and the first error of another. Raises KeyInvalid."""
    named = listed(text)
    if len(named) > MAX_KEYS:
        raise KeyInvalid(f"there are {len(named)} keys: expected at most {MAX_KEYS}")
    keys: list[Key] = []
    wrong: PlainmqError | None = None
    for part in named:
        try:
            keys.append(read_key(part))
        except PlainmqError as error:
            wrong = wrong or error
    return JwtKeys(keys, expected), wrong


def sign(key: Key, name: str, rights: Rights, expires: float, expected: Expected) -> str:
    """Sign a token for servers that have the public key and these expectations. Raises KeyInvalid, ClaimsInvalid."""
    registered = {"aud": expected.audience, "iss": expected.issuer}
    claims = checked(Signed(sub=name, exp=int(expires), **msgspec.structs.asdict(rights)))
    payload = msgspec.to_builtins(claims) | {name: value for name, value in registered.items() if value}
    return jwt.encode(payload, key.key, key.algorithm)
