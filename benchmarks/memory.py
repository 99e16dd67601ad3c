"""The memory that is announced at a start, row by row: each bound is filled to its limit, and the process looked at.

    python -m benchmarks.memory [--scale N] [ROW ...]

For each way to fill a row of app/limits/budget.py a server is started with the limit that bounds it, and filled until
it refuses, or, where it makes room itself, with more than it keeps. A line tells the row and what filled it, the limit,
the bytes that are announced for the row, and how much the resident memory has grown since the server was idle. It ends
with 1 if one of them is more than announced. `--scale`: that many times the limits. ROW: words, for those rows only
whose names have one of them.
"""

import argparse
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from itertools import count
from typing import Final, NamedTuple

import msgspec

from app.limits.budget import items
from app.log.groups.job import JOB_COST
from app.messages.units import ByteSize
from app.settings import Settings, flag, load
from benchmarks.harness import connect, receive_some, receive_until
from tests.harness import ServerProcess, start_server

MOST: Final = 20_000  # attempts to fill a row, before it has no end
LONG: Final = 900  # characters of the longest topics
LINES: Final = 500  # of a batch
NAMES: Final = 5_000  # more than any cache of names holds
AT_ONCE: Final = 64 << 10  # bytes of a batch, at most: it is another row
ALL_TAKEN: Final = 0
TOO_MANY: Final = -1
REFUSED: Final = {429, 503, 507, ALL_TAKEN}
_ROOMY: Final = {"max_messages": "10000000", "max_bytes": "64GiB", "min_free_disk": "0"}
SQLITE: Final = "sqlite"  # an engine, whose file is in a folder of this run


class Endless(Exception):
    """Nothing is refused."""


class Client:
    """Who fills a row. What it holds open is closed with `stack`."""

    def __init__(self, server: ServerProcess, stack: ExitStack, settings: Settings, names: int) -> None:
        self.server = server
        self.settings = settings
        self.names = names
        self._stack = stack
        self._http = stack.enter_context(closing(HTTPConnection("127.0.0.1", server.port, timeout=60)))
        self.most = 0
        self.idle = 0

    def look(self) -> None:
        self.most = max(self.most, self.server.resident())

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._http.request(method, path, body, named)
        answer = self._http.getresponse()
        said = answer.read()
        self.look()
        return answer.status, said

    def done(self, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        status, said = self.call(method, path, body, **headers)
        assert status < 300, f"{method} {path[:80]}: {status} {said[:200]!r}"
        return said

    def until_refused(self, act: Callable[[int], int]) -> None:
        """`act` answers a status."""
        for number in range(MOST):
            status = act(number)
            self.look()
            if status in REFUSED:
                return
            if status == TOO_MANY:
                break
            assert status < 300, status
        raise Endless(f"{number} of them were taken")

    def batch(self, topic: str, body: bytes = b"x", options: str = "") -> int:
        many = b"\n".join([body] * min(LINES, AT_ONCE // len(body) + 1))
        return self.call("POST", f"/topics/{topic}/messages{options}", many, Content_Type="application/x-ndjson")[0]

    def open(self, port: int, said: bytes) -> socket.socket:
        sock = self._stack.enter_context(closing(connect(port)))
        sock.sendall(said)
        return sock

    def stream(self, path: str) -> int:
        """A reader that stays; its status."""
        sock = self.open(self.server.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = receive_until(sock, b"\r\n\r\n")
        return int(head.split(b" ", 2)[1])


def idle(client: Client) -> None:
    """What the program is, when it has done a little of everything, and remembers names."""
    for number in range(client.names):
        client.call("GET", f"/topics/{f'warm{number}'.ljust(LONG, 'x')}")
    for number in range(200):
        client.done("POST", "/topics/warm/messages", b"x", Idempotency_Key=f"k{number}")
    client.done("POST", "/topics/warm/groups/g/pull?max=10")
    client.done("GET", "/topics/warm/messages")
    client.done("GET", "/metrics")
    client.done("DELETE", "/topics/warm")


def messages(options: str, body: bytes = b"x", batches: int = 10) -> Callable[[Client], None]:
    """Until no more are taken, in several topics."""
    return lambda client: client.until_refused(
        lambda number: client.batch(f"t{number % batches}", body, options=options)
    )


def delayed(client: Client) -> None:
    client.until_refused(lambda number: client.batch(f"t{number % 10}", options="?delay=1h"))


def leases(client: Client) -> None:
    """Of all messages that are taken, until there is no memory for another; or none is left, if no more messages were
    taken."""
    client.done("PUT", "/topics/a/groups/g", b"{}")
    most = 2 * int(client.settings.max_total_bytes) // JOB_COST + LINES
    all_taken = ALL_TAKEN if any(client.batch("a") in REFUSED for _ in range(-(-most // LINES))) else TOO_MANY

    def pull(_: int) -> int:
        status, said = client.call("POST", "/topics/a/groups/g/pull?max=100&lease=1h")
        return status if b'"attempt"' in said or status in REFUSED else all_taken

    client.until_refused(pull)


def groups(client: Client) -> None:
    def make(number: int) -> int:
        settings = msgspec.json.encode({"dead_letter": f"d{number}".ljust(LONG, "x")})
        return client.call("PUT", f"/topics/t{number // 100}/groups/{'g' * 100}{number}", settings)[0]

    client.until_refused(make)


def names(client: Client) -> None:
    """As many topics and keys as are remembered, and topics that are gone."""
    topics = [f"t{number}".ljust(LONG, "x") for number in range(int(client.settings.max_topics))]
    for topic in topics:
        client.done("POST", f"/topics/{topic}/messages", b"x")
        client.done("DELETE", f"/topics/{topic}")
        client.done("POST", f"/topics/{topic}/messages", b"x", Idempotency_Key="k" * 100)
    assert client.call("POST", "/topics/more/messages", b"x")[0] == 429


def unfinished(client: Client) -> None:
    """Bodies that are never whole."""
    part = 1 << 19
    head = b"POST /topics/a/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (1 << 20)
    for _ in range(2 * int(client.settings.max_unfinished) // part):
        client.open(client.server.port, head + b"x" * part)
        client.done("GET", "/livez")


def untaken(client: Client) -> None:
    """Readers whose sockets are full, and that are cut off when all of that is too much."""
    readers = 2 * int(client.settings.max_unsent) // (1 << 20) + 2
    for _ in range(readers):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.connect(("127.0.0.1", client.server.port))
        sock.sendall(b"GET /topics/a/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client._stack.callback(sock.close)
    for _ in range(20):
        client.done("POST", "/topics/a/messages?retain=false", b"x" * (1 << 20))


def whole_batch(client: Client) -> None:
    body = b"x" * 1_000
    many = b"\n".join([body] * (int(client.settings.max_batch) // (len(body) + 1)))
    for number in range(5):
        client.done("POST", f"/topics/t{number}/messages?retain=false", many, Content_Type="application/x-ndjson")


def readers(names: Callable[[int], list[str]]) -> Callable[[Client], None]:
    def fill(client: Client) -> None:
        client.until_refused(
            lambda number: client.stream("/stream?format=json&" + "&".join(f"topic={name}" for name in names(number)))
        )

    return fill


def _wide(number: int) -> list[str]:
    """64 patterns of 16 segments."""
    return [".".join([f"{number}x{each}", *"abcdefghijklmn", "*"]) for each in range(64)]


def workers(client: Client) -> None:
    client.done("PUT", "/topics/a/groups/g", b"{}")
    for _ in range(20):
        assert client.batch("a") < 300
    client.until_refused(lambda _: client.stream("/topics/a/groups/g/stream?credit=100&lease=1h"))


def http_clients(client: Client) -> None:
    """Heads that are not whole."""
    head = b"GET /topics/a HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (int(client.settings.max_head) - 200)
    for _ in range(client.settings.max_http_clients - 1):
        client.open(client.server.port, head)
    client.done("GET", "/livez")


def long_polls(client: Client) -> None:
    """Whole heads with as many headers as there may be."""
    headers = "".join(f"h{number}: x\r\n" for number in range(95))
    ask = f"GET /topics/a/messages?wait=20s HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode()
    for _ in range(client.settings.max_http_clients - 1):
        client.open(client.server.port, ask)
    client.done("GET", "/livez")


def line_clients(client: Client) -> None:
    for _ in range(client.settings.max_tcp_clients):
        receive_some(client.open(client.server.tcp_port, b"ping\n"))
        client.look()


class Row(NamedTuple):
    """`what` of the budget, filled with `by`; `limit`: the setting that is multiplied, and what it is at scale 1."""

    what: str
    by: str
    limit: tuple[str, int]
    fill: Callable[[Client], None]
    others: Mapping[str, str] = {}
    names: int = 0  # that are asked for before
    batches: int = 0  # MiB of a batch, which is announced too

    def settings(self, scale: int) -> dict[str, str]:
        name, least = self.limit
        value = str(ByteSize(least * scale)) if isinstance(getattr(Settings(), name), ByteSize) else str(least * scale)
        batch = {"max_batch": f"{self.batches}MiB"} if self.batches else {}
        return {**_ROOMY, **self.others, **batch, name: value}


MIB: Final = 1 << 20
LOG: Final = ("max_total_bytes", 4 * MIB)
SUBSCRIBERS: Final = ("max_subscribers", 100)
ON_DISK: Final = {"engine": SQLITE, "synchronous": "relaxed"}

ROWS: Final = (
    Row("the program", "nothing", ("max_topics", 10_000), idle, names=NAMES),
    Row("the log", "small messages", LOG, messages("")),
    Row("the log", "messages of 10 KiB", LOG, messages("", b"x" * 10_000), batches=1),
    Row("the log", "messages with a ttl", LOG, messages("?ttl=1h")),
    Row("the log", "messages for one", LOG, messages("?delivery=one")),
    Row("the log", "delayed messages", LOG, delayed),
    Row("the log", "leases", LOG, leases),
    Row("the log", "groups", LOG, groups, names=NAMES),
    Row("the log", "sqlite: messages with a ttl", LOG, messages("?ttl=1h"), ON_DISK),
    Row("the log", "sqlite: messages for one", LOG, messages("?delivery=one"), ON_DISK),
    Row("the log", "sqlite: delayed messages", LOG, delayed, ON_DISK),
    Row("the log", "sqlite: leases", LOG, leases, ON_DISK),
    Row("the log", "sqlite: groups", LOG, groups, ON_DISK, NAMES),
    Row("names and keys", "topics, keys and what is gone", ("max_topics", 500), names),
    Row("unfinished input", "bodies", ("max_unfinished", 16 * MIB), unfinished),
    Row("unread output", "a stalled crowd", ("max_unsent", 16 * MIB), untaken),
    Row(
        "a batch being stored",
        "lines of 1 KB",
        ("max_batch", 4 * MIB),
        whole_batch,
        {"max_batch_messages": "1000000"},
    ),
    Row("subscribers", "one topic each", SUBSCRIBERS, readers(lambda number: [f"t{number}"])),
    Row("subscribers", "64 topics each", SUBSCRIBERS, readers(lambda n: [f"t{n}.{each}" for each in range(64)])),
    Row("subscribers", "64 patterns of 16 segments each", SUBSCRIBERS, readers(_wide)),
    Row("subscribers", "workers with 100 leases", SUBSCRIBERS, workers),
    Row("HTTP connections", "unfinished heads", ("max_http_clients", 200), http_clients),
    Row("HTTP connections", "long polls with 100 headers", ("max_http_clients", 200), long_polls),
    Row("connections to the line port", "idle ones", ("max_tcp_clients", 200), line_clients),
)


class Figures(NamedTuple):
    limit: str
    announced: int
    resident: int

    @property
    def within(self) -> bool:
        return self.resident <= self.announced


def measure(row: Row, scale: int, folder: str) -> Figures:
    wanted = row.settings(scale)
    if wanted.get("engine") == SQLITE:
        wanted["engine"] = f"sqlite://{tempfile.mkdtemp(dir=folder)}/log.db"
    settings = load(wanted)
    flags = [part for name, value in wanted.items() for part in (flag(name), value)]
    with start_server(*flags) as server, ExitStack() as stack:
        client = Client(server, stack, settings, row.names)
        before = 0
        if row.fill is not idle:
            idle(client)
            before = server.resident()
        client.most = 0
        row.fill(client)
        client.look()
        what = {row.what, "a batch being stored"} if row.batches else {row.what}
        announced = sum(item.nbytes for item in items(settings) if item.what in what)
        return Figures(f"{flag(row.limit[0])} {wanted[row.limit[0]]}", announced, client.most - before)


def table(rows: tuple[Row, ...], scale: int) -> Iterator[tuple[Row, Figures]]:
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            yield row, measure(row, scale, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--scale", type=int, default=4)
    options = parser.parse_args()
    rows = tuple(row for row in ROWS if not options.rows or any(w in f"{row.what} {row.by}" for w in options.rows))
    over = count()
    print(f"{'row':62s}{'limit':>26s}{'announced':>13s}{'resident':>13s}")  # noqa: T201
    for row, figures in table(rows, options.scale):
        mark = "" if figures.within else f"  TOO MUCH ({next(over) + 1})"
        megabytes = "".join(f"{nbytes / MIB:9.1f} MiB" for nbytes in (figures.announced, figures.resident))
        print(f"{row.what + ': ' + row.by:62s}{figures.limit:>26s}{megabytes}{mark}", flush=True)  # noqa: T201
    return min(next(over), 1)


if __name__ == "__main__":
    sys.exit(main())
