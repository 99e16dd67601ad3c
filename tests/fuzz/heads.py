"""The short cut against plain ASGI: generated requests, cut in every way, at two servers that have no socket.

    python -m tests.fuzz.heads --minutes 5          other heads each time
    python -m tests.fuzz.heads --minutes 5 --seed 7 the same as `--seed 7` before

One server speaks our own protocol, which remembers heads. The other speaks uvicorn's, which remembers nothing. A family
of heads differs in spelling only, so that what is remembered of one meets the others. Each head comes first in pieces,
to a server that has never seen it; then whole; then cut at every place, to a server that may know it. After each
request the two answers are compared, and after each family the two logs.
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
from typing import Final, NamedTuple

from app.access.authenticator import Authenticator
from tests.fuzz.keys import KEYS, signed
from tests.fuzz.wire import Doors
from tests.harness import OPEN

TOPICS: Final = ("a", "a.b", "c")
_OLD: Final = b"HTTP/1.0"
FEW: Final = 12  # cuts of each head, where not all are tried
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
    "X-Unknown": ("Content-Length: 3", "\r\n\r\n", "a\0b", "y"),
}  # fmt: skip
_TARGETS: Final = ("/topics/{t}/messages",) * 24 + (
    "/topics/%61/messages", "/topics/{t}%2Fb/messages", "/topics/{t}/messages?", "/topics/{t}/messages?ttl=1h",
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
    """Requests that a client might send one after the other, and their like in other spellings."""
    kind = chance.choice((_PUBLISH, _PUBLISH, _PUBLISH, _STREAM))
    topic, body = chance.choice(TOPICS), chance.choice(kind.bodies)
    names = chance.sample([*_OTHERS], chance.choice((0, 0, 1, 1, 2, 3)))
    values = {name: chance.choice(_OTHERS[name]) for name in names}
    plain = _request(random.Random(0), kind, topic, body, values, odd=0.0)
    bodies = (body, body, *kind.bodies)
    odd = [_request(chance, kind, topic, chance.choice(bodies), values, odd=0.7) for _ in range(5)]
    return [*[_request(random.Random(0), _PUBLISH, topic, "before", {}, 0.0)] * 3, plain, *odd]


def _request(chance: random.Random, kind: Kind, topic: str, body: str, values: dict[str, str], odd: float) -> bytes:
    """`odd`: how likely it is that it is written in an unusual way at all."""

    def choose(usual: Sequence[str], one: float = 0.3) -> str:
        return chance.choice(usual) if chance.random() < odd * one else usual[0]

    length = len(body.encode("latin-1"))
    counters = {"n": str(length), "more": str(length + 1), "less": str(max(length - 1, 0))}
    length_field = ("Content-Length", choose(_LENGTHS).format(**counters))
    fields = [("Host", choose(_HOSTS)), *[length_field] * (kind.has_length or bool(body)), *values.items()]
    if chance.random() < odd * 0.3:
        chance.shuffle(fields)
    if chance.random() < odd * 0.15:
        fields.pop(chance.randrange(len(fields)))
    written = []
    for name, value in fields:
        spell = chance.choice(_NAMES) if chance.random() < odd * 0.5 else str
        written.append(f"{spell(name)}{choose(_COLONS)}{value}{choose(_TAILS)}{choose(_ENDS, 0.2)}")
    line = f"{choose(kind.methods, 0.2)} {choose(kind.targets).format(t=topic)} {choose(_VERSIONS)}\r\n"
    before = "\r\n" if chance.random() < odd * 0.05 else ""
    return f"{before}{line}{''.join(written)}\r\n{body}".encode("latin-1", "replace")


def cuts(request: bytes, chance: random.Random, every: bool) -> Iterator[list[bytes]]:
    """The request in pieces: behind its head, byte by byte, whole, and in two at `every` place or at some."""
    places = range(1, len(request))
    head = request.find(b"\r\n\r\n") + 4
    yield [request[:head], request[head:]]
    yield [request]
    yield [request[:head], request[head:]]
    yield [request[place : place + 1] for place in range(len(request))]
    chosen = places if every or len(places) <= FEW else sorted(chance.sample(places, FEW))
    for place in chosen:
        yield [request[:place], request[place:]]
    first, second = sorted(chance.choices(places, k=2))
    yield [request[:first], request[first:second], request[second:]]
    # uvicorn forgets a stream behind which something else was asked, and reads nothing behind a request of HTTP/1.0.
    if not any(word in request for word in (b"GET", b"HEAD", _OLD)):
        yield [request + request[:first], request[first:]]


class Difference(AssertionError):
    """The two servers do not agree."""


class Comparison:
    """Two servers that are told the same."""

    def __init__(self, authenticator: Authenticator) -> None:
        self.short, self.plain = Doors(authenticator), Doors(authenticator)
        self.requests = self.answers = 0
        self.statuses: Counter[str] = Counter()

    def close(self) -> None:
        self.short.close()
        self.plain.close()

    def tell(self, pieces: list[bytes]) -> None:
        """Raises Difference."""
        pieces = [piece for piece in pieces if piece]
        short, plain = (said_in(doors.say(make, pieces)) for doors, make in self._sides())
        if _OLD in b"".join(pieces):  # uvicorn keeps no connection of HTTP/1.0, and tells its clients to continue
            short, plain = (
                [(status.removesuffix(" close"), body) for status, body in answers if status != "100"]
                for answers in (short, plain)
            )
        if not _agree(short, plain):
            raise Difference(f"{pieces!r}:\nthe short cut answers {short}\nplain ASGI {plain}")
        self.requests += 1
        self.statuses.update(status for status, _ in short)

    def compare_logs(self) -> None:
        """Raises Difference."""
        short, plain = _log(self.short), _log(self.plain)
        if short != plain:
            raise Difference(f"the log has {short} by the short cut, and {plain} by plain ASGI")

    def _sides(self) -> tuple[tuple[Doors, Callable[[Doors], asyncio.Protocol]], ...]:
        return (self.short, Doors.http), (self.plain, Doors.asgi)


_NOT_HTTP: Final = ("400 close", b"")


def _agree(short: list[tuple[str, bytes]], plain: list[tuple[str, bytes]]) -> bool:
    """uvicorn says that something is not HTTP at once, and then answers nothing of what came before it."""
    hasty = plain[-1:] == [_NOT_HTTP] == short[-1:] and len(plain) < len(short)
    return short[: len(plain) - 1] == plain[:-1] if hasty else short == plain


def _log(doors: Doors) -> list[tuple[str, str, bytes]]:
    return [(message.topic, message.content_type, message.data) for message in doors.log()]


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


def said_in(text: bytes) -> list[tuple[str, bytes]]:
    """Each answer's status, and its body but for what differs from server to server; and whether it ends the
    connection. Behind a stream nothing is looked at: ours ends the connection, and uvicorn's does not. uvicorn has
    words of its own for what is not HTTP, and for a version that the parser does not know."""
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
    """One family. Raises Difference."""
    authenticator = chance.choice((OPEN, Authenticator(keys=KEYS)))
    with closing(Comparison(authenticator)) as both:
        for request in family(chance):
            for pieces in cuts(request, chance, every):
                both.tell(pieces)
        both.compare_logs()
        return both


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.heads", description="The short cut against plain ASGI.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args(arguments)
    logging.disable()  # each refusal would be a line
    print(f"seed {options.seed}", flush=True)
    families, requests, statuses = run(options.seed, options.minutes * 60)
    print(f"{families} families, {requests} requests at each server: the same answers and the same log")
    print(", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())))
    return 0


def run(seed: int, seconds: float) -> tuple[int, int, Counter[str]]:
    """How many families and requests were compared in so many seconds, and how many answers had which status."""
    chance, end = random.Random(seed), monotonic() + seconds
    families, requests, statuses = 0, 0, Counter[str]()
    while monotonic() < end:
        both = compare(random.Random(chance.getrandbits(64)), every=True)
        families, requests = families + 1, requests + both.requests
        statuses += both.statuses
    return families, requests, statuses


if __name__ == "__main__":
    sys.exit(main())
