"""What is remembered of verified tokens: it has a bounded memory, and nothing that a key or a file has taken back."""

import tracemalloc
from collections.abc import Iterator
from itertools import count, islice, product

import msgspec
import pytest

from app.access.authenticator import MAX_TOKEN, Authenticator
from app.access.claims import Rights
from app.access.grant import MAX_PATTERNS, Grant, Right
from app.access.grant_cache import MAX_MEMORY, GrantCache
from app.access.jwt_keys import Expected, JwtKeys, Key, sign
from app.access.spent_tickets import LIFETIME, MAX_SPENT
from app.access.tickets import TicketClaims, Tickets
from app.limits.budget import ATTEMPTS, SIGNED, items
from app.limits.quotas import FailedLogins, QuotaLimits, Quotas
from app.limits.rates import MAX_BUCKETS
from app.settings import Settings, load


class AnyToken:
    """Keys that have signed every token."""

    def __init__(self, rights: Rights = Rights()) -> None:  # noqa: B008
        self.origins = {b"key"}
        self.verified: list[str] = []
        self._grant = msgspec.structs.replace(rights.grant("n", None), origin=b"key")

    def verify(self, token: str, now: float) -> Grant:
        self.verified.append(token)
        return msgspec.structs.replace(self._grant, name=token[:100], expires=now + 100)


def any_tokens() -> Iterator[str]:
    """As long as they may be."""
    return (f"a.b.{number}".ljust(MAX_TOKEN, "x") for number in count())


@pytest.mark.parametrize("patterns", [0, 60])
def test_of_the_known_tokens_the_oldest_are_forgotten(patterns: int) -> None:
    keys = AnyToken(Rights(publish=[f"p.{number}" for number in range(patterns)]))
    authenticator = Authenticator(keys=keys)
    tokens = [*islice(any_tokens(), MAX_MEMORY // MAX_TOKEN)]  # each takes more memory than its text
    for token in tokens:
        authenticator.authenticate(token, "")
    assert keys.verified == tokens
    newest, oldest = tokens[-500:], tokens[:10]
    for token in newest:  # of these each is known
        authenticator.authenticate(token, "")
    assert keys.verified == tokens
    for token in oldest:
        assert authenticator.authenticate(token, "").name == token[:100]
    assert keys.verified == tokens + oldest


@pytest.mark.parametrize("patterns", [0, 5, 60])
@pytest.mark.parametrize("length", [30, MAX_TOKEN])
def test_known_tokens_and_headers_take_no_more_memory_than_they_may(patterns: int, length: int) -> None:
    names = map("".join, product("abcdefghijklmnopqrstuvwxyz", repeat=5))
    cache = GrantCache()
    tracemalloc.start()
    for number in range(15_000):
        token = f"{number:030}".ljust(length, "x")
        rights = Rights(publish=[*islice(names, patterns)], view=[*islice(names, patterns)])
        grant = rights.grant(f"name {number}", 1e10 + number)
        cache.by_token.add(token, grant)
        cache.by_header.add(f"Bearer {token}".encode(), grant)
        if number > 3 * len(cache.by_token.grants):
            break  # all that is there has been replaced, and more than once
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 2 * MAX_MEMORY + (1 << 20)  # and the caches of names
    assert taken > MAX_MEMORY // 2 or len(cache.grants) == 15_000


def test_a_key_that_is_gone_ends_a_token_that_is_known_by_its_header_only() -> None:
    authenticator = Authenticator(keys=AnyToken(Rights(publish=["a"])))
    header = b"Bearer a.b.first"
    authenticator.authenticate("a.b.first", "")
    assert authenticator.cached_grant(header, Right.PUBLISH, ["a"]) is not None
    for token in islice(any_tokens(), MAX_MEMORY // MAX_TOKEN):  # of the line port, say: these have no header
        authenticator.authenticate(token, "")
    assert authenticator.cached_grant(header, Right.PUBLISH, ["a"]) is not None
    authenticator.replace_keys(JwtKeys([Key("HS256", b"x" * 32)], Expected()))
    assert authenticator.cached_grant(header, Right.PUBLISH, ["a"]) is None


@pytest.mark.parametrize("length", [2, 3, 4])  # more would be too long for a token
def test_the_patterns_of_a_signed_token_take_no_more_memory_than_is_announced(length: int) -> None:
    """A stream keeps them. The names are more than the cache of names has, so none is shared."""
    names = map("".join, product("abcdefghijklmnopqrstuvwxyz0123456789", repeat=length))
    keys, grants, signed = JwtKeys([Key("HS256", b"x" * 32)], Expected()), list[Grant](), list[str]()
    for number in range(50):
        rights = Rights(**{str(right): [*islice(names, MAX_PATTERNS)] for right in Right})
        signed.append(sign(Key("HS256", b"x" * 32), f"n{number}", rights, 1e10, Expected()))
    tracemalloc.start()
    grants += [keys.verify(token, 0.0) for token in signed]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert max(map(len, signed)) <= MAX_TOKEN
    assert taken < len(grants) * SIGNED
    assert settings_with("jwt_keys", "HS256:x") - settings_with("jwt_keys", "") == SIGNED * (
        Settings().max_subscribers + Settings().max_tcp_clients
    )


def settings_with(name: str, value: str) -> int:
    """The announced bytes."""
    return sum(item.nbytes for item in items(load({name: value})))


def test_spent_tickets_and_attempts_take_no_more_memory_than_is_announced() -> None:
    now = 0.0
    tickets = Tickets(clock=lambda: now)
    logins, quotas = FailedLogins(clock=lambda: now), Quotas(QuotaLimits(), clock=lambda: now)
    tracemalloc.start()
    for _ in range(2):
        for number in range(MAX_SPENT - 1):
            claims = TicketClaims((1 << 62) + int(now) * MAX_SPENT + number, now + LIFETIME, "n", epoch=tickets._epoch)
            stream = object()
            tickets.spend(claims, stream)
            tickets.ended(stream, lost=False)
        now += LIFETIME
    for number in range(MAX_BUCKETS + 1_000):
        logins.failed(f"2001:db8:{number:x}:ffff:ffff:ffff:ffff:ffff")
        quotas.count_publishes(f"token {number:0128}")
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ATTEMPTS // 2 < taken < ATTEMPTS
