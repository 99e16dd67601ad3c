"""Servers that require a token, of both kinds, and tokens for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.access.claims import Rights, every_right
from app.access.tokens import make_token
from tests.access.keys import AUDIENCE, ISSUER, SECRET, public_pem, put
from tests.harness import ServerProcess, start_server, start_uvicorn_with


class Guarded:
    """A server, and tokens in its file."""

    def __init__(self, process: ServerProcess, tokens: Path, good: str, expired: str) -> None:
        self.process = process
        self.tokens = tokens
        self.good = good
        self.expired = expired

    def token(self, name: str, **rights: list[str]) -> str:
        """Add a token to the file."""
        return make_token(self.tokens, name, Rights(**rights))


@contextmanager
def guarded(folder: Path, kind: str) -> Iterator[Guarded]:
    tokens = folder / "tokens"
    good = make_token(tokens, "good", every_right())
    expired = make_token(tokens, "expired", every_right(), 1_000.0)
    keys = [f"HS256:{put(folder / 'secret', SECRET.encode())}"]
    keys += [f"{name}:{put(folder / name, public_pem(name))}" for name in ("RS256", "ES256", "EdDSA")]
    settings = {
        "tokens": str(tokens), "jwt_keys": ",".join(keys), "jwt_audience": AUDIENCE, "jwt_issuer": ISSUER,
        "max_topics": "100000", "max_failed_logins": "0",
    }  # fmt: skip
    if kind == "own protocol":
        flags = [part for name, value in settings.items() for part in ("--" + name.replace("_", "-"), value)]
        start = start_server(*flags)
    else:
        start = start_uvicorn_with(**{f"PLAINMQ_{name.upper()}": value for name, value in settings.items()})
    with start as process:
        yield Guarded(process, tokens, good, expired)


@pytest.fixture(scope="module", params=["own protocol", "plain ASGI"])
def protected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp("guarded"), request.param) as server:
        yield server
