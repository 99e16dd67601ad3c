"""Announced memory: fills each bound to its limit, and compares the process's memory with what a start announces.

    python -m benchmarks.memory [--scale N] [ROW ...]

For each row of app/limits/budget.py, and each way to fill it, a server is started with the limit that bounds the row,
and filled until it refuses more; or, if it discards old entries itself, with more than it retains. A line has the row
and what filled it, the limit, the bytes that are announced for the row, and the growth of the resident memory since the
server was idle. The exit status is 1 if a row grew by more than is announced. `--scale`: multiplies the limits. ROW:
words; only rows whose name has one of them are run.
"""

import argparse
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from hashlib import sha256
from http.client import HTTPConnection
from itertools import chain, count, cycle, islice, product
from pathlib import Path
from string import ascii_lowercase, digits
from time import time
from typing import Final, NamedTuple

import msgspec

from app.access.claims import Rights, every_right
from app.access.grant import MAX_PATTERNS, Right
from app.access.jwt_keys import Expected, read_key, sign
from app.access.tokens import MAX_FILE, make_token
from app.limits.budget import items
from app.limits.rates import MAX_BUCKETS
from app.log.groups.job import JOB_COST
from app.messages.headers import MAX_HEADERS
from app.messages.lease import MAX_REASON
from app.messages.ordering import MAX_ORDER_KEY, MAX_PRIORITY
from app.messages.units import ByteSize
from app.settings import Settings, flag, load
from benchmarks.harness import connect, receive_some, receive_until
from tests.harness import ServerProcess, start_server

MAX_ATTEMPTS: Final = 20_000  # to fill a row, after which its limit does not work
LONG_TOPIC: Final = 900  # characters
MAX_LINES: Final = 500  # of a batch
NOT_CACHED: Final = "x" * 1_100  # a header that makes a head too long for the cache of heads
MANY_NAMES: Final = 5_000  # more than any cache of names holds
MAX_BATCH: Final = 64 << 10  # bytes of a batch: large batches have a row of their own
ALL_LEASED: Final = 0  # not a status of HTTP: all messages are leased, and the server refuses more messages
NEVER_REFUSED: Final = -1  # all messages are leased, and the server accepted all that was published
REFUSED: Final = {429, 503, 507, ALL_LEASED}
_ROOMY: Final = {"max_messages": "10000000", "max_bytes": "64GiB", "min_free_disk": "0"}
SQLITE: Final = "sqlite"  # replaced by a URL with a file in a temporary folder


class Unbounded(Exception):
    """The server did not refuse more: the limit does not bound this row."""


class Client:
    """Fills a row. Its connections are closed by `stack`."""

    def __init__(
        self, server: ServerProcess, stack: ExitStack, settings: Settings, names: int, token: str | None
    ) -> None:
        self.server = server
        self.settings = settings
        self.names = names
        self.token = token
        self._stack = stack
        self._http = stack.enter_context(closing(HTTPConnection("127.0.0.1", server.port, timeout=60)))
        self.peak = 0  # bytes of resident memory

    def sample_memory(self) -> None:
        self.peak = max(self.peak, self.server.resident())

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        fields = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        self._http.request(method, path, body, fields)
        answer = self._http.getresponse()
        content = answer.read()
        self.sample_memory()
        return answer.status, content

    def expect_success(self, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        status, content = self.call(method, path, body, **headers)
        assert status < 300, f"{method} {path[:80]}: {status} {content[:200]!r}"
        return content

    def until_refused(self, attempt: Callable[[int], int]) -> None:
        """Call `attempt`, which returns a status, with 0, 1, ... until the status is a refusal."""
        for number in range(MAX_ATTEMPTS):
            status = attempt(number)
            self.sample_memory()
            if status in REFUSED:
                return
            if status == NEVER_REFUSED:
                break
            assert status < 300, status
        raise Unbounded(f"{number} of them were accepted")

    def until_accepted(self, token: str) -> None:
        """Show the token until it is in force."""
        for _ in range(MAX_ATTEMPTS):
            if self.call("GET", "/topics/a", Authorization=f"Bearer {token}")[0] not in {401, 429}:
                return
        raise Unbounded("the tokens are not in force")

    def batch(self, topic: str, body: bytes = b"x", options: str = "") -> int:
        lines = b"\n".join([body] * min(MAX_LINES, MAX_BATCH // len(body) + 1))
        return self.call("POST", f"/topics/{topic}/messages{options}", lines, Content_Type="application/x-ndjson")[0]

    def open(self, port: int, data: bytes) -> socket.socket:
        sock = self._stack.enter_context(closing(connect(port)))
        sock.sendall(data)
        return sock

    def stream(self, path: str) -> int:
        """Open a stream, and leave it open. Returns its status."""
        sock = self.open(self.server.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = receive_until(sock, b"\r\n\r\n")
        return int(head.split(b" ", 2)[1])


def idle(client: Client) -> None:
    """Use a little of everything, and fill the caches of names."""
    for number in range(client.names):
        client.call("GET", f"/topics/{f'warm{number}'.ljust(LONG_TOPIC, 'x')}")
    for number in range(200):
        client.expect_success("POST", "/topics/warm/messages", b"x", Idempotency_Key=f"k{number}")
    client.expect_success("POST", "/topics/warm/groups/g/pull?max=10")
    client.expect_success("GET", "/topics/warm/messages")
    client.expect_success("GET", "/metrics")
    client.expect_success("DELETE", "/topics/warm")


def messages(options: str, body: bytes = b"x", batches: int = 10) -> Callable[[Client], None]:
    """Publish to several topics until the server refuses more."""
    return lambda client: client.until_refused(
        lambda number: client.batch(f"t{number % batches}", body, options=options)
    )


def delayed(delay: str) -> Callable[[Client], None]:
    return lambda client: client.until_refused(
        lambda number: client.batch(f"t{number % 10}", options=f"?delay={delay}")
    )


def with_headers(client: Client) -> None:
    """Messages with as many bytes of headers as one may have."""
    fields = {f"X_Plainmq_H{number}": "x" * 120 for number in range(MAX_HEADERS)}
    client.until_refused(lambda number: client.call("POST", f"/topics/t{number % 10}/messages", b"x", **fields)[0])


def ordered(client: Client) -> None:
    """Messages with keys and priorities, each batch with others, that wait in a group."""
    client.expect_success("PUT", "/topics/a/groups/g", b"{}")
    key = "k" * (MAX_ORDER_KEY - 10)
    client.until_refused(
        lambda number: client.batch("a", options=f"?priority={number % (MAX_PRIORITY + 1)}&key={key}{number}")
    )


def keyed_leases(client: Client) -> None:
    """Leases of messages that each have another key."""
    client.expect_success("PUT", "/topics/a/groups/g", b"{}")
    key = "k" * (MAX_ORDER_KEY - 10)

    def lease(number: int) -> int:
        status, _ = client.call("POST", f"/topics/a/messages?key={key}{number}", b"x", X_Padding=NOT_CACHED)
        if number % 100 == 99:
            client.call("POST", "/topics/a/groups/g/pull?max=100&lease=1h")
        return status

    client.until_refused(lease)


def dead(client: Client) -> None:
    """Dead messages, nacked with the longest reasons, until there is no memory for more: then nothing is leased."""
    client.expect_success("PUT", "/topics/a/groups/g", b'{"max_deliveries":1}')
    reason = "\U0001f600" * MAX_REASON

    def give_up(number: int) -> int:
        if number % 5 == 0 and (status := client.batch("a")) in REFUSED:
            return status
        status, content = client.call("POST", "/topics/a/groups/g/pull?max=100&lease=1h")
        if status in REFUSED:
            return status
        ids = [message["lease"] for message in msgspec.json.decode(content)["messages"]]
        body = msgspec.json.encode({"ids": ids, "reason": reason})
        return client.call("POST", "/topics/a/groups/g/nack", body)[0] if ids else ALL_LEASED

    client.until_refused(give_up)


def leases(client: Client) -> None:
    """Lease messages until there is no memory for another lease.

    If the memory is full of messages before there are enough of them, until all are leased.
    """
    client.expect_success("PUT", "/topics/a/groups/g", b"{}")
    wanted = 2 * int(client.settings.max_total_bytes) // JOB_COST + MAX_LINES
    all_leased = (
        ALL_LEASED if any(client.batch("a") in REFUSED for _ in range(-(-wanted // MAX_LINES))) else NEVER_REFUSED
    )

    def pull(_: int) -> int:
        status, content = client.call("POST", "/topics/a/groups/g/pull?max=100&lease=1h")
        return status if b'"attempt"' in content or status in REFUSED else all_leased

    client.until_refused(pull)


def groups(client: Client) -> None:
    def make(number: int) -> int:
        settings = msgspec.json.encode({"dead_letter": f"d{number}".ljust(LONG_TOPIC, "x")})
        return client.call("PUT", f"/topics/t{number // 100}/groups/{'g' * 100}{number}", settings)[0]

    client.until_refused(make)


def names(client: Client) -> None:
    """As many topics and idempotency keys as are remembered, and the names of deleted topics."""
    topics = [f"t{number}".ljust(LONG_TOPIC, "x") for number in range(int(client.settings.max_topics))]
    for topic in topics:
        client.expect_success("POST", f"/topics/{topic}/messages", b"x")
        client.expect_success("DELETE", f"/topics/{topic}")
        client.expect_success("POST", f"/topics/{topic}/messages", b"x", Idempotency_Key="k" * 100)
    assert client.call("POST", "/topics/more/messages", b"x")[0] == 429


def unfinished(client: Client) -> None:
    """Request bodies that are never complete."""
    part = 1 << 19  # bytes
    head = b"POST /topics/a/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (1 << 20)
    for _ in range(2 * int(client.settings.max_unfinished) // part):
        client.open(client.server.port, head + b"x" * part)
        client.expect_success("GET", "/livez")


def unread(client: Client) -> None:
    """Subscribers that do not read, and are disconnected when too many bytes wait for them."""
    readers = 2 * int(client.settings.max_unsent) // (1 << 20) + 2
    for _ in range(readers):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.connect(("127.0.0.1", client.server.port))
        sock.sendall(b"GET /topics/a/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client._stack.callback(sock.close)
    for _ in range(20):
        client.expect_success("POST", "/topics/a/messages?retain=false", b"x" * (1 << 20))


def large_batches(client: Client) -> None:
    body = b"x" * 1_000
    lines = b"\n".join([body] * (int(client.settings.max_batch) // (len(body) + 1)))
    for number in range(5):
        client.expect_success(
            "POST", f"/topics/t{number}/messages?retain=false", lines, Content_Type="application/x-ndjson"
        )


def subscribers(names: Callable[[int], list[str]]) -> Callable[[Client], None]:
    def fill(client: Client) -> None:
        client.until_refused(
            lambda number: client.stream("/stream?format=json&" + "&".join(f"topic={name}" for name in names(number)))
        )

    return fill


def _wide(number: int) -> list[str]:
    """64 patterns of 16 segments."""
    return [".".join([f"{number}x{each}", *"abcdefghijklmn", "*"]) for each in range(64)]


def consumers(client: Client) -> None:
    client.expect_success("PUT", "/topics/a/groups/g", b"{}")
    for _ in range(20):
        assert client.batch("a") < 300
    client.until_refused(lambda _: client.stream("/topics/a/groups/g/stream?credit=100&lease=1h"))


def viewers(client: Client) -> None:
    client.until_refused(lambda _: client.stream("/stats/stream"))


def http_clients(client: Client) -> None:
    """Request heads that are never complete."""
    head = b"GET /topics/a HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (int(client.settings.max_head) - 200)
    for _ in range(client.settings.max_http_clients - 1):
        client.open(client.server.port, head)
    client.expect_success("GET", "/livez")


def long_polls(client: Client) -> None:
    """Long polls with about as many headers as a request may have."""
    headers = "".join(f"h{number}: x\r\n" for number in range(95))
    request = f"GET /topics/a/messages?wait=20s HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode()
    for _ in range(client.settings.max_http_clients - 1):
        client.open(client.server.port, request)
    client.expect_success("GET", "/livez")


def line_clients(client: Client) -> None:
    for _ in range(client.settings.max_tcp_clients):
        receive_some(client.open(client.server.tcp_port, b"ping\n"))
        client.sample_memory()


SHORT_NAMES: Final = [*map("".join, product(ascii_lowercase + digits, repeat=3))]  # they take the most memory a byte


def token_file(known: bytes, generation: int) -> tuple[bytes, str]:
    """As many bytes of tokens as the file may have, after the known lines, and the last token."""
    size, lines, patterns = len(known), [known], cycle(SHORT_NAMES[generation:])
    for number in count():
        token = f"t{generation}-{number}"
        rights = {str(right): [*islice(patterns, MAX_PATTERNS)] for right in Right}
        line = msgspec.json.encode({"name": token, "sha256": sha256(token.encode()).hexdigest(), **rights}) + b"\n"
        if size + len(line) > MAX_FILE:
            return b"".join(lines), f"t{generation}-{number - 1}"
        lines.append(line)
        size += len(line)
    raise AssertionError


def tokens(client: Client) -> None:
    """A full file of tokens, replaced by others while it is in force."""
    path = Path(client.settings.tokens)
    known = path.read_bytes()
    for generation in range(4):
        content, last = token_file(known, generation)
        new = path.with_suffix(".new")
        new.touch(0o600)
        new.write_bytes(content)
        new.replace(path)
        client.until_accepted(last)


def signed(patterns: int, tokens: int) -> Callable[[Client], None]:
    """Signed tokens with so many patterns of each right."""

    def fill(client: Client) -> None:
        key, names = read_key(client.settings.jwt_keys, private=True), cycle(SHORT_NAMES)
        for number in range(tokens):
            rights = Rights(**{str(right): [*islice(names, patterns)] for right in Right})
            client.token = sign(key, f"n{number}", rights, time() + 3_600, Expected())
            for topic in chain.from_iterable((rights.publish[:1], rights.publish[-1:])):
                client.expect_success("POST", f"/topics/{topic}/messages?retain=false", b"x")

    return fill


def failed_logins(client: Client) -> None:
    """Wrong tokens from more addresses than are remembered."""
    for number in range(MAX_BUCKETS + 1_000):
        address = f"2001:db8:{number:x}:ffff:ffff:ffff:ffff:ffff"
        status, _ = client.call("GET", "/topics", Authorization=f"Bearer pmq_{number}", X_Forwarded_For=address)
        assert status == 401


class Row(NamedTuple):
    """`name`: of the row of the budget. `limit`: the setting that bounds it, and its value at scale 1."""

    name: str
    content: str  # what fills it
    limit: tuple[str, int]
    fill: Callable[[Client], None]
    others: Mapping[str, str] = {}  # other settings
    names: int = 0  # topics that are asked for first, to fill the caches of names
    batches: int = 0  # MiB of a batch, for which memory is announced in a row of its own
    guarded: bool = False  # tokens are required

    def settings(self, scale: int) -> dict[str, str]:
        name, base = self.limit
        value = str(ByteSize(base * scale)) if isinstance(getattr(Settings(), name), ByteSize) else str(base * scale)
        batch = {"max_batch": f"{self.batches}MiB"} if self.batches else {}
        return {**_ROOMY, **self.others, **batch, name: value}


def guarded(folder: Path) -> tuple[dict[str, str], str]:
    """Settings of a server that requires tokens, with their file and a key in the folder, and a token."""
    tokens, secret = folder / "tokens", folder / "secret"
    secret.touch(0o600)
    secret.write_bytes(b"x" * 64)
    token = make_token(tokens, "benchmark", every_right())
    return {
        "auth": "required", "tokens": str(tokens), "jwt_keys": f"HS256:{secret}", "trusted_proxies": "127.0.0.1",
    }, token  # fmt: skip


MIB: Final = 1 << 20
LOG: Final = ("max_total_bytes", 4 * MIB)
LARGER_LOG: Final = ("max_total_bytes", 8 * MIB)  # for what fills caches of the program besides
TOPICS: Final = ("max_topics", 10_000)  # of rows with a constant bound
SUBSCRIBERS: Final = ("max_subscribers", 100)
ON_DISK: Final = {"engine": SQLITE, "synchronous": "relaxed"}

ROWS: Final = (
    Row("the program", "nothing", TOPICS, idle, names=MANY_NAMES),
    Row("the log", "small messages", LOG, messages("")),
    Row("the log", "messages of 10 KiB", LOG, messages("", b"x" * 10_000), batches=1),
    Row("the log", "messages with a ttl", LOG, messages("?ttl=1h")),
    Row("the log", "messages of delivery one", LOG, messages("?delivery=one")),
    Row("the log", "delayed messages", LOG, delayed("1h")),
    Row("the log", "messages delayed by a year", LOG, delayed("365d")),
    Row("the log", "messages with 4 KiB of headers", LARGER_LOG, with_headers),
    Row("the log", "messages with keys and priorities", LOG, ordered),
    Row("the log", "leases", LOG, leases),
    Row("the log", "leases of keys", LARGER_LOG, keyed_leases),
    Row("the log", "dead messages with reasons", LOG, dead),
    Row("the log", "groups", LOG, groups, names=MANY_NAMES),
    Row("the log", "sqlite: messages with a ttl", LOG, messages("?ttl=1h"), ON_DISK),
    Row("the log", "sqlite: messages of delivery one", LOG, messages("?delivery=one"), ON_DISK),
    Row("the log", "sqlite: delayed messages", LOG, delayed("1h"), ON_DISK),
    Row("the log", "sqlite: messages with keys and priorities", LOG, ordered, ON_DISK),
    Row("the log", "sqlite: leases", LOG, leases, ON_DISK),
    Row("the log", "sqlite: leases of keys", LOG, keyed_leases, ON_DISK),
    Row("the log", "sqlite: dead messages with reasons", LOG, dead, ON_DISK),
    Row("the log", "sqlite: groups", LOG, groups, ON_DISK, MANY_NAMES),
    Row("names and keys", "topics, keys and deleted topics", ("max_topics", 500), names),
    Row("tokens and log-ins", "a file of short patterns, replaced", TOPICS, tokens, guarded=True),
    Row("tokens and log-ins", "signed tokens of one pattern", TOPICS, signed(1, 6_000), guarded=True),
    Row("tokens and log-ins", "signed tokens of 300 patterns", TOPICS, signed(60, 2_000), guarded=True),
    Row("tokens and log-ins", "failed log-ins of many addresses", TOPICS, failed_logins, guarded=True),
    Row("unfinished input", "bodies", ("max_unfinished", 16 * MIB), unfinished),
    Row("unread output", "subscribers that do not read", ("max_unsent", 16 * MIB), unread),
    Row(
        "a batch being stored",
        "lines of 1 KB",
        ("max_batch", 4 * MIB),
        large_batches,
        {"max_batch_messages": "1000000"},
    ),
    Row("subscribers", "one topic each", SUBSCRIBERS, subscribers(lambda number: [f"t{number}"])),
    Row("subscribers", "64 topics each", SUBSCRIBERS, subscribers(lambda n: [f"t{n}.{each}" for each in range(64)])),
    Row("subscribers", "64 patterns of 16 segments each", SUBSCRIBERS, subscribers(_wide)),
    Row("subscribers", "consumers with 100 leases", SUBSCRIBERS, consumers),
    Row("subscribers", "viewers of the figures", SUBSCRIBERS, viewers),
    Row("HTTP connections", "unfinished heads", ("max_http_clients", 200), http_clients),
    Row("HTTP connections", "long polls with 100 headers", ("max_http_clients", 200), long_polls),
    Row("connections to the line port", "idle ones", ("max_tcp_clients", 200), line_clients),
)


class Figures(NamedTuple):
    limit: str
    announced: int
    resident: int

    @property
    def within_budget(self) -> bool:
        return self.resident <= self.announced


def measure(row: Row, scale: int, folder: str) -> Figures:
    values = row.settings(scale)
    if values.get("engine") == SQLITE:
        values["engine"] = f"sqlite://{tempfile.mkdtemp(dir=folder)}/log.db"
    token = None
    if row.guarded:
        more, token = guarded(Path(tempfile.mkdtemp(dir=folder)))
        values |= more
    settings = load(values)
    flags = [part for name, value in values.items() for part in (flag(name), value)]
    with start_server(*flags) as server, ExitStack() as stack:
        client = Client(server, stack, settings, row.names, token)
        idle_memory = 0
        if row.fill is not idle:
            idle(client)
            idle_memory = server.resident()
        client.peak = 0
        row.fill(client)
        client.sample_memory()
        rows = {row.name, "a batch being stored"} if row.batches else {row.name}
        announced = sum(item.nbytes for item in items(settings) if item.what in rows)
        return Figures(f"{flag(row.limit[0])} {values[row.limit[0]]}", announced, client.peak - idle_memory)


def measure_all(rows: tuple[Row, ...], scale: int) -> Iterator[tuple[Row, Figures]]:
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            yield row, measure(row, scale, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--scale", type=int, default=4)
    options = parser.parse_args()
    rows = tuple(
        row for row in ROWS if not options.rows or any(word in f"{row.name} {row.content}" for word in options.rows)
    )
    over_budget = count()
    print(f"{'row':62s}{'limit':>26s}{'announced':>13s}{'resident':>13s}")  # noqa: T201
    for row, figures in measure_all(rows, options.scale):
        mark = "" if figures.within_budget else f"  TOO MUCH ({next(over_budget) + 1})"
        megabytes = "".join(f"{nbytes / MIB:9.1f} MiB" for nbytes in (figures.announced, figures.resident))
        print(f"{row.name + ': ' + row.content:62s}{figures.limit:>26s}{megabytes}{mark}", flush=True)  # noqa: T201
    return min(next(over_budget), 1)


if __name__ == "__main__":
    sys.exit(main())
