"""What the fast path knows of a request while its body is on the way, against what it would find out anew."""

import time
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec

from app.access.authenticator import AnonymousAccess, Authenticator
from app.access.grant import ANONYMOUS, UNAUTHENTICATED, Grant, Right
from app.access.token_watch import CHECK_INTERVAL
from app.access.tokens import TokenFile
from app.errors import Unauthorised
from app.messages.message import rfc3339
from tests.access.keys import put

NAMES: Final = ("ann", "bob", "cid")
TOPICS: Final = ("a", "b.c")


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def any_line(chance: Random, name: str, now: float) -> bytes:
    entry: dict[str, Any] = {"name": name, "sha256": sha256(name.encode()).hexdigest()}
    entry["publish"] = chance.choice(([], ["a"], ["**"], ["a", "b.*"]))
    if chance.random() < 0.4:
        entry["expires"] = rfc3339(now + chance.choice((1, 3, 60)))
    return msgspec.json.encode(entry)


def replace(path: Path, lines: list[bytes]) -> None:
    put(path.with_name("new"), b"\n".join(lines) + b"\n").replace(path)


async def test_a_grant_is_current_only_if_it_would_be_found_again() -> None:
    everybody = Authenticator(AnonymousAccess.ANONYMOUS)
    assert everybody.is_current(None, ANONYMOUS)
    assert not everybody.is_current(None, UNAUTHENTICATED)
    assert not Authenticator(AnonymousAccess.LOOPBACK).is_current(None, ANONYMOUS)


async def test_a_grant_is_current_as_a_search_says_whatever_has_become_of_its_token(tmp_path: Path) -> None:
    chance, clock, path = Random(7), Clock(), tmp_path / "tokens"
    replace(path, [any_line(chance, name, clock.now) for name in NAMES])
    authenticator = Authenticator(file=TokenFile(path), clock=clock)
    matched: list[tuple[bytes, str, Grant]] = []
    said = {True: 0, False: 0}
    for _ in range(3_000):
        if chance.random() < 0.1:
            replace(path, [any_line(chance, name, clock.now) for name in NAMES if chance.random() < 0.8])
        if chance.random() < 0.3:
            clock.now += chance.choice((-0.5, 0.5, CHECK_INTERVAL, 5))
        name, topic = chance.choice(NAMES), chance.choice(TOPICS)
        header = b"Bearer " + name.encode()
        try:
            authenticator.authenticate(name, "")
        except Unauthorised:
            pass
        else:
            if (grant := authenticator.cached_grant(header, Right.PUBLISH, (topic,))) is not None:
                matched.append((header, topic, grant))
        for header, topic, grant in matched[-4:]:
            current = authenticator.is_current(header, grant)
            again = authenticator.cached_grant(header, Right.PUBLISH, (topic,))
            assert not current or again is grant
            said[current] += 1
    assert min(said.values()) > 100  # both were seen
