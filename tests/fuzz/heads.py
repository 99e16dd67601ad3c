"""The fast path compared with plain ASGI: generated requests, divided in every way, to two servers without sockets.

    python -m tests.fuzz.heads --minutes 5          with random heads
    python -m tests.fuzz.heads --minutes 5 --seed 7 with the heads of a seed

One server has our own protocol, which caches heads. The other has uvicorn's, which caches nothing. The heads of a
family differ only in spelling, so that a cached head meets similar ones. Each head is sent first in pieces, to a server
that has never seen it; then whole; then divided at every position, to a server that may have it cached. The answers are
compared after each request, and the logs after each family.
"""

import argparse
import asyncio
import logging
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from time import monotonic
from typing import Any, Final, NamedTuple

from app.access.authenticator import Authenticator
from tests.fuzz.keys import KEYS, signed
from tests.fuzz.wire import Endpoints
from tests.harness import OPEN

TOPICS: Final = ("a", "a.b", "c")
_HTTP_1_0: Final = b"HTTP/1.0"
FEW: Final = 12  # positions to divide a request at, where not all are tried
_TOKEN: Final = signed(b'{"alg":"HS256"}', b'{"sub":"good","exp":99999999999,"publish":["a"],"subscribe":["**"]}')

# What a client may write. `{n}` is the length of the body; half of the choices are the usual one. No target is in
# absolute form: uvicorn hides its host from the app (tests/web/test_request_line.py).

_NAMES: Final[tuple[Callable[[str], str], ...]] = (
    str, str, str, str.lower, str.upper, str.swapcase, str.capitalize, lambda name: name[0] + name[1:].upper(),
)  # fmt: skip
_COLONS: Final = (": ",) * 8 + (":", ":  ", ":\t", ": \t ", " : ", "\t: ")
_TAILS: Final = ("",) * 10 + (" ", "\t", " \t ")
_ENDS: Final = ("\r\n",) * 40 + ("\n", "\r", "\r\n ", "\r\n\t")
_LENGTHS: Final = ("{n}",) * 12 + (
    "0{n}", "000000000000000000000{n}", "+{n}", "-{n}", "{n}, {n}", "{n},", "{n} {n}", "0x{n}", "{n}_0", "{n}.0", "",
    "{n}\r\nContent-Length: {n}", "{n}\r\nContent-length: 0", "{more}", "{less}", "99999999999999999999", "\u0665",
)  # fmt: skip
_HOSTS: Final = ("localhost",) * 12 + (
    "127.0.0.1:8000", "LOCALHOST", "localhost:", "evil.example", "", "a b", "localhost\r\nHost: localhost",
)  # fmt: skip
_OTHERS: Final = {
    "Content-Type": (
        "text/plain", "text/plain; charset=utf-8", "application/x-ndjson", "APPLICATION/X-NDJSON ; a=b", "", "x" * 256,
        "caf\u00e9", "a\tb", "application/x-www-form-urlencoded", "Application/X-WWW-form-urlencoded",
    ),
    "Transfer-Encoding": (
        "chunked", "Chunked", "identity", "gzip, chunked", "chunked, chunked", "xchunked", "", "chunked;a",
    ),
    "Content-Encoding": ("gzip", "identity", ""),
    "Connection": (
        "keep-alive", "close", "Close", "CLOSE ", "foo, close", "close, keep-alive", "keep-alive,close", "closed",
        ",close", "close;x", "", "Content-Length", "keep-alive\r\nConnection: close",
    ),
    "Expect": ("100-continue", "100-Continue", "other"),
    "Authorization": (
        f"Bearer {_TOKEN}", f"Bearer {_TOKEN}", f"bearer {_TOKEN}", f"Bearer  {_TOKEN}", "Bearer nonsense",
        "Basic eDp4", "", f"Bearer {_TOKEN}\r\nAuthorization: Bearer {_TOKEN}",
    ),
    "Idempotency-Key": ("k", "other", ""),
    "Origin": ("http://localhost", "https://evil.example", "null"),
    "Sec-Fetch-Site": ("none", "same-origin", "cross-site"),
    "X-Forwarded-For": ("10.0.0.1", "nonsense", ""),
    "X-Forwarded-Proto": ("https",),
    "Accept": ("*/*", "text/event-stream", ""),
    "User-Agent": ("curl/8", "\u00e9"),
    "Last-Event-ID": ("", "nonsense", "x-1"),
    "Cookie": ("plainmq=nonsense",),
    "X-Request-ID": ("mine",),
    "X-Plainmq-Title": (
        "ready", "", "caf\u00c3\u00a9", "caf\u00e9", "a\x1bb", "a\tb", "x" * 5_000, "one\r\nX-Plainmq-Title: two",
    ),
    "X-Plainmq-Traceparent": ("00-other-01",),
    "X-Plainmq-a b": ("x",),
    "X-Plainmq-": ("x",),
    "X-Plainmq": ("x",),
    "traceparent": ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "\u202e"),
    "ce-id": ("1234", ""),
    "ce-": ("x",),
    "X-Unknown": ("Content-Length: 3", "\r\n\r\n", "a\0b", "y"),
}  # fmt: skip
_TARGETS: Final = ("/topics/{t}/messages",) * 24 + (
    "/topics/%61/messages", "/topics/{t}%2Fb/messages", "/topics/{t}/messages?", "/topics/{t}/messages?ttl=1h",
    "/topics/{t}/messages?priority=9", "/topics/{t}/messages?key=k", "/topics/{t}/messages?priority=10&key=",
    "/topics/{t}/messages?delivery=nonsense", "/topics/{t}/messages#x", "//topics/{t}/messages",
    "/topics/{t}/messages/", "/topics//messages", "/topics/./messages", "/topics/{t}/../a/messages",
    "/topics/{t}/messages;x", "*", "",
)  # fmt: skip
_VERSIONS: Final = ("HTTP/1.1",) * 20 + ("HTTP/1.0", "http/1.1", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/1.1 ", "")
_METHODS: Final = ("POST",) * 24 + ("post", "PUT", "PATCH", "OPTIONS")
_READS: Final = ("GET",) * 12 + ("HEAD", "get")
_STREAMS: Final = ("/topics/{t}/stream?since=earliest&limit=2",) * 12 + (
    "/topics/{t}/stream", "/topics/*/stream?since=earliest&limit=1", "/topics/{t}/stream?limit=0", "/topics/%61/stream",
    "/topics/{t}/stream?since=last:1&format=json&limit=1", "/topics/{t}/stream?ticket=x", "/topics/{t}/stream?x",
    "/topics/groups/g/stream", "/topics/messages/stream", "/topics/{t}/stream#x", "/topics/{t}/stream?since=%31",
)  # fmt: skip
_BODIES: Final = (
    "", "x", "hello", "caf\u00e9", "two\nlines", "\r\n\r\n", "DELETE /topics/a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "POST /topics/hidden/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx", "y" * 2_001,
    "0\r\n\r\n", "1\r\nx\r\n0\r\n\r\n",
)  # fmt: skip


class Kind(NamedTuple):
    methods: Sequence[str]
    targets: Sequence[str]
    bodies: Sequence[str]
    has_length: bool


_PUBLISH: Final = Kind(_METHODS, _TARGETS, _BODIES, True)
_STREAM: Final = Kind(_READS, _STREAMS, ("", "", "x"), False)


def family(chance: random.Random) -> list[bytes]:
    """Requests that a client might send one after the other, and similar ones with unusual spellings."""
    kind = chance.choice((_PUBLISH, _PUBLISH, _PUBLISH, _STREAM))
    topic, body = chance.choice(TOPICS), chance.choice(kind.bodies)
    names = chance.sample([*_OTHERS], chance.choice((0, 0, 1, 1, 2, 3)))
    values = {name: chance.choice(_OTHERS[name]) for name in names}
    plain = _request(random.Random(0), kind, topic, body, values, odd=0.0)
    bodies = (body, body, *kind.bodies)
    odd = [_request(chance, kind, topic, chance.choice(bodies), values, odd=0.7) for _ in range(5)]
    return [*[_request(random.Random(0), _PUBLISH, topic, "before", {}, 0.0)] * 3, plain, *odd]


def _request(chance: random.Random, kind: Kind, topic: str, body: str, values: dict[str, str], odd: float) -> bytes:
    """`odd`: the probability of unusual spellings; 0: none."""

    def choose(usual: Sequence[str], one: float = 0.3) -> str:
        return chance.choice(usual) if chance.random() < odd * one else usual[0]

    length = len(body.encode("latin-1"))
    counters = {"n": str(length), "more": str(length + 1), "less": str(max(length - 1, 0))}
    is_stream = bool(body) and not kind.has_length  # uvicorn drops a stream that bytes follow: its body has its length
    length_field = ("Content-Length", ("{n}" if is_stream else choose(_LENGTHS)).format(**counters))
    fields = [("Host", choose(_HOSTS)), *[length_field] * (kind.has_length or bool(body)), *values.items()]
    if chance.random() < odd * 0.3:
        chance.shuffle(fields)
    if chance.random() < odd * 0.15:
        fields.remove(chance.choice([field for field in fields if not (is_stream and field is length_field)]))
    written = []
    for name, value in fields:
        spell = chance.choice(_NAMES) if chance.random() < odd * 0.5 else str
        written.append(f"{spell(name)}{choose(_COLONS)}{value}{choose(_TAILS)}{choose(_ENDS, 0.2)}")
    line = f"{choose(kind.methods, 0.2)} {choose(kind.targets).format(t=topic)} {choose(_VERSIONS)}\r\n"
    before = "\r\n" if chance.random() < odd * 0.05 else ""
    return f"{before}{line}{''.join(written)}\r\n{body}".encode("latin-1", "replace")


def divisions(request: bytes, chance: random.Random, every: bool) -> Iterator[list[bytes]]:
    """The request in pieces: divided after its head, whole, byte by byte, and in two at `every` position or at some."""
    positions = range(1, len(request))
    head = request.find(b"\r\n\r\n") + 4
    yield [request[:head], request[head:]]
    yield [request]
    yield [request[:head], request[head:]]
    yield [request[index : index + 1] for index in range(len(request))]
    chosen = positions if every or len(positions) <= FEW else sorted(chance.sample(positions, FEW))
    for position in chosen:
        yield [request[:position], request[position:]]
    first, second = sorted(chance.choices(positions, k=2))
    yield [request[:first], request[first:second], request[second:]]
    # uvicorn drops a stream if another request follows it, and does not read what follows a request of HTTP/1.0.
    if not any(word in request for word in (b"GET", b"HEAD", _HTTP_1_0)):
        yield [request + request[:first], request[first:]]


class Difference(AssertionError):
    """The two servers answered differently."""


class Comparison:
    """Two servers that get the same requests: one with the fast path, one with plain ASGI."""

    def __init__(self, authenticator: Authenticator) -> None:
        self.fast, self.plain = Endpoints(authenticator), Endpoints(authenticator)
        self.requests = 0
        self.statuses: Counter[str] = Counter()

    def close(self) -> None:
        self.fast.close()
        self.plain.close()

    def send(self, pieces: list[bytes]) -> None:
        """Raises Difference."""
        pieces = [piece for piece in pieces if piece]
        fast, plain = (parse_answers(server.exchange(make, pieces)) for server, make in self._servers())
        if _HTTP_1_0 in b"".join(pieces):  # uvicorn closes connections of HTTP/1.0, and sends their clients 100
            fast, plain = (
                [(status.removesuffix(" close"), body) for status, body in answers if status != "100"]
                for answers in (fast, plain)
            )
        if not _agree(fast, plain):
            raise Difference(f"{pieces!r}:\nthe fast path answers {fast}\nplain ASGI {plain}")
        self.requests += 1
        self.statuses.update(status for status, _ in fast)

    def compare_logs(self) -> None:
        """Raises Difference."""
        fast, plain = _log(self.fast), _log(self.plain)
        if fast != plain:
            raise Difference(f"the log has {fast} with the fast path, and {plain} with plain ASGI")

    def _servers(self) -> tuple[tuple[Endpoints, Callable[[Endpoints], asyncio.Protocol]], ...]:
        return (self.fast, Endpoints.http), (self.plain, Endpoints.asgi)


_NOT_HTTP: Final = ("400 close", b"")


def _agree(fast: list[tuple[str, bytes]], plain: list[tuple[str, bytes]]) -> bool:
    """uvicorn answers what is not HTTP at once, and then does not answer the requests before it."""
    skipped = plain[-1:] == [_NOT_HTTP] == fast[-1:] and len(plain) < len(fast)
    return fast[: len(plain) - 1] == plain[:-1] if skipped else fast == plain


def _log(endpoints: Endpoints) -> list[tuple[Any, ...]]:
    return [(each.topic, each.content_type, each.headers, each.ordering, each.data) for each in endpoints.log()]


_EPOCH: Final = re.compile(rb"[0-9a-z]{6,}-(?=[0-9])")
_VOLATILE: Final = re.compile(rb'"(?:time|due)":"[^"]*"|retry: [0-9]+')


def _chunks(text: bytes) -> Iterator[bytes]:
    while text:
        line, _, text = text.partition(b"\r\n")
        size = int(line, 16)
        if not size:
            return
        yield text[:size]
        text = text[size + 2 :]


def parse_answers(text: bytes) -> list[tuple[str, bytes]]:
    """The status of each answer, with ` close` if it ends the connection, and its body.

    What differs between any two servers is left out, and so is what follows a stream: our protocol closes the
    connection then, and uvicorn's does not. The texts about invalid HTTP and unknown versions differ, too.
    """
    found: list[tuple[str, bytes]] = []
    while text:
        head, _, text = text.partition(b"\r\n\r\n")
        lower = head.lower() + b"\r\n"
        if b"text/event-stream" in lower:
            stream = b"".join(_chunks(text)) if b"\ntransfer-encoding: chunked\r\n" in lower else text
            return [*found, ("stream", _VOLATILE.sub(b"", _EPOCH.sub(b"", stream)))]
        length = int(lower.partition(b"content-length: ")[2].split(b"\r\n")[0] or b"0")
        body, text = text[:length], text[length:]
        status = head.split(b" ", 2)[1].decode() + (" close" if b"\nconnection: close\r\n" in lower else "")
        status = _NOT_HTTP[0] if b"version_unsupported" in body else status
        known = (
            b""
            if b"not_http" in body or b"version_unsupported" in body or body == b"Invalid HTTP request received."
            else body
        )
        found.append((status, _VOLATILE.sub(b"", _EPOCH.sub(b"", known))))
    return found


def compare(chance: random.Random, every: bool) -> Comparison:
    """Compare one family. Raises Difference."""
    authenticator = chance.choice((OPEN, Authenticator(keys=KEYS)))
    with closing(Comparison(authenticator)) as comparison:
        for request in family(chance):
            for pieces in divisions(request, chance, every):
                comparison.send(pieces)
        comparison.compare_logs()
        return comparison


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.heads", description="Compare the fast path with plain ASGI."
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args(arguments)
    logging.disable()  # the servers would log every refusal
    print(f"seed {options.seed}", flush=True)
    families, requests, statuses = run(options.seed, options.minutes * 60)
    print(f"{families} families, {requests} requests at each server: the same answers and the same log")
    print(", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())))
    return 0


def run(seed: int, seconds: float) -> tuple[int, int, Counter[str]]:
    """Compare families for some time. Returns their number, the number of requests, and the statuses of the answers."""
    chance, end = random.Random(seed), monotonic() + seconds
    families, requests, statuses = 0, 0, Counter[str]()
    while monotonic() < end:
        comparison = compare(random.Random(chance.getrandbits(64)), every=True)
        families, requests = families + 1, requests + comparison.requests
        statuses += comparison.statuses
    return families, requests, statuses


if __name__ == "__main__":
    sys.exit(main())
