"""Who waits for whom: the longest that one client waits for its publish while another asks for the worst.

    python -m benchmarks.stalls [--engine memory|sqlite] [--messages N] [--topics N] [ROW ...]

Starts `plainmq serve` with each engine and fills it: one topic of 300,000 messages, each in a run of its own, and
10,000 topics of one. Then a process publishes to another topic every 5 ms, while each verb is asked with its worst
arguments. A row tells how long the verb took, the longest that one of those publishes took meanwhile, the most CPU
time that the server had while one of them waited, and of that its event loop: no turn of the loop takes longer than
that. These two are the figures to go by where the machine has other work, which the row `nothing` tells. Verbs that
change nothing are asked twice, and the better figures count. ROW: words, for those rows only whose names have one of
them.
"""

import argparse
import multiprocessing as mp
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any, Final, NamedTuple

import msgspec

from benchmarks.harness import connect, receive_some, receive_until
from tests.harness import ServerProcess, start_server

EVERY: Final = 0.005  # seconds between two publishes
BODY: Final = "x" * 64
PATIENCE: Final = 120.0  # seconds
BIG: Final = "big"
WIDE: Final = [".".join(["*", *"abcdefghijklmn", f"z{n}"]) for n in range(64)]  # 16 segments each
_FLAGS: Final = (
    "--max-messages", "10000000", "--max-bytes", "64GiB", "--max-total-bytes", "8GiB", "--max-topics", "50000",
    "--max-batch", "16MiB", "--max-age", "1d",
)  # fmt: skip
_DONE: Final = b'{"success": true}\r\n'

Json = dict[str, Any]


class Wait(NamedTuple):
    """Seconds, those of the server's CPU time meanwhile, and of that what its event loop had."""

    seconds: float
    cpu: float
    loop: float


NO_WAIT: Final = Wait(0.0, 0.0, 0.0)


class Prober:
    """A process that publishes every 5 ms and knows the longest that it waited."""

    def __init__(self, server: ServerProcess, headers: bytes = b"") -> None:
        self._ours, theirs = mp.Pipe()
        self._process = mp.get_context("fork").Process(target=_probe, args=(server, headers, theirs), daemon=True)
        self._process.start()
        self.longest()

    def longest(self) -> "Wait":
        """Since this was asked last."""
        self._ours.send(None)
        wait: Wait = self._ours.recv()
        return wait

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


def _cpu(task: Path) -> float:
    """Seconds of CPU time that the thread has had."""
    return int((task / "schedstat").read_text().split()[0]) / 1e9


def _probe(server: ServerProcess, headers: bytes, asked: Connection) -> None:
    head = b"POST /topics/probe/messages HTTP/1.1\r\nHost: localhost\r\n" + headers
    tasks = Path(f"/proc/{server.process.pid}/task")
    longest, loop = NO_WAIT, tasks / str(server.process.pid)
    with connect(server.port) as sock:
        sock.settimeout(PATIENCE)
        while True:
            begun, had, loop_had = time.perf_counter(), sum(map(_cpu, tasks.iterdir())), _cpu(loop)
            sock.sendall(head + b"Content-Length: 5\r\n\r\nhello")
            receive_until(sock, b'"durability":')
            seconds, looped = time.perf_counter() - begun, _cpu(loop) - loop_had
            wait = Wait(seconds, sum(map(_cpu, tasks.iterdir())) - had, looped)
            longest = Wait(*map(max, longest, wait))
            if asked.poll(max(EVERY - (time.perf_counter() - begun), 0.0)):
                asked.recv()
                asked.send(longest)
                longest = NO_WAIT


class Asker:
    """Another client."""

    def __init__(self, server: ServerProcess, messages: int, topics: int) -> None:
        self.server = server
        self.messages = messages
        self.topics = topics

    def call(self, method: str, path: str, body: Json | bytes | None = None, kind: str = "application/json") -> bytes:
        with closing(HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)) as http:
            data = body if isinstance(body, bytes) else None if body is None else msgspec.json.encode(body)
            http.request(method, path, data, {"Content-Type": kind} if data is not None else {})
            answer = http.getresponse()
            said = answer.read()
            assert answer.status < 300 or answer.status == 409, f"{method} {path[:80]}: {answer.status} {said[:300]!r}"
            return said

    def fill(self, topic: Callable[[int], str], count: int, at_once: int = 1_000) -> None:
        """Publish to each of these topics; no message is in a run with the one before it."""
        with connect(self.server.tcp_port) as sock:
            for first in range(0, count, at_once):
                many = range(first, min(first + at_once, count))
                sock.sendall(b"".join(_line(topic(number), number) for number in many))
                sent, seen = sum(number % 2 for number in many), b""
                while seen.count(_DONE) < sent:
                    seen += receive_some(sock)

    def big(self, topic: str = BIG) -> None:
        self.fill(lambda _: topic, self.messages)

    def pull(self, topic: str, group: str, times: int = 1) -> list[str]:
        ids: list[str] = []
        for _ in range(times):
            answer = msgspec.json.decode(self.call("POST", f"/topics/{topic}/groups/{group}/pull?max=100&lease=1h"))
            ids += [message["id"] for message in answer["messages"]]
        return ids

    def settle(self, action: str, ids: list[str], group: str, topic: str = BIG) -> None:
        self.call("POST", f"/topics/{topic}/groups/{group}/{action}", {"ids": ids})

    def at_once(self, count: int, act: "Callable[[Asker], object]") -> None:
        threads = [Thread(target=act, args=(self,)) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def speak(self, line: bytes, until: bytes) -> None:
        with connect(self.server.tcp_port) as sock:
            sock.settimeout(PATIENCE)
            sock.sendall(line)
            receive_until(sock, until)

    def listen(self, path: str, seconds: float) -> None:
        with closing(socket.create_connection(("127.0.0.1", self.server.port))) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
            sock.settimeout(0.2)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                try:
                    if not sock.recv(1 << 20):
                        return
                except TimeoutError:
                    return


def _line(topic: str, number: int) -> bytes:
    if number % 2:
        return b'{"command":"send","topic":"%b","msg":"%b","delivery":"all"}\n' % (topic.encode(), BODY.encode())
    return b"{'command':'send', 'topic':'%b', 'msg':'%b'}\n" % (topic.encode(), BODY.encode())


class Row(NamedTuple):
    """`prepare` is not measured; `after` is, for so many seconds longer. `rounds`: of which the best counts."""

    name: str
    ask: Callable[[Asker], object]
    prepare: Callable[[Asker], object] = lambda _: None
    rounds: int = 2
    after: float = 0.0


def _get(path: str) -> Callable[[Asker], object]:
    return lambda asker: asker.call("GET", path)


def _stream(path: str, seconds: float = 2.0) -> Callable[[Asker], object]:
    return lambda asker: asker.listen(path, seconds)


def _wide(since: str) -> Callable[[Asker], object]:
    """A stream of 64 patterns."""
    return _stream("/stream?" + "&".join([*(f"topic={name}" for name in WIDE), f"since={since}", "timeout=2s"]))


def _last_half(topic: str) -> Callable[[Asker], object]:
    return lambda asker: asker.call("GET", f"/topics/{topic}/messages?since=last:{asker.messages // 2}")


def _last_seen(asker: Asker) -> None:
    line = b'{"command":"subscribe","topic":"big","last_seen":%d}\n' % (asker.messages // 2)
    asker.speak(line, b'"index"')


def _shrink(topic: str, change: Json) -> Row:
    return Row(
        f"trim a topic by {next(iter(change))}", lambda asker: asker.call("PUT", f"/topics/{topic}", change),
        lambda asker: asker.big(topic), rounds=1, after=1.0,
    )  # fmt: skip


def _die(asker: Asker) -> None:
    asker.settle("nack", asker.pull(BIG, "dies", 10), "dies")


def _no_topic(name: str) -> Callable[[Asker], object]:
    return lambda asker: asker.call("DELETE", f"/topics/{name}")


def _batch(nbytes: int, lines: int = 10_000, topic: str = "batch", options: str = "") -> Callable[[Asker], object]:
    body = b"\n".join([b"y" * (nbytes // lines - 1)] * lines)
    return lambda asker: asker.call("POST", f"/topics/{topic}/messages{options}", body, "application/x-ndjson")


def _group(name: str, settings: Json | None = None, topic: str = BIG) -> Callable[[Asker], object]:
    return lambda asker: asker.call("PUT", f"/topics/{topic}/groups/{name}", settings or {})


def _no_group(name: str, topic: str = BIG) -> Callable[[Asker], object]:
    return lambda asker: asker.call("DELETE", f"/topics/{topic}/groups/{name}")


def _all(*acts: Callable[[Asker], object]) -> Callable[[Asker], object]:
    return lambda asker: [act(asker) for act in acts]


def _meanwhile(act: Callable[[Asker], object]) -> Callable[[Asker], object]:
    return lambda asker: Thread(target=act, args=(asker,), daemon=True).start()


def _settle_1000(action: str, group: str) -> Row:
    ids: list[str] = []
    return Row(
        f"{action} 1,000 ids", lambda asker: asker.settle(action, ids, group),
        lambda asker: ids.__setitem__(slice(None), asker.pull(BIG, group, 10)), rounds=1, after=0.2,
    )  # fmt: skip


def _leases_that_end(asker: Asker) -> None:
    ids = asker.pull(BIG, "held", 200)
    for first in range(0, len(ids), 1_000):
        asker.call("POST", f"/topics/{BIG}/groups/held/nack?delay=6s", {"ids": ids[first : first + 1_000]})


def _delayed(asker: Asker) -> None:
    with connect(asker.server.port) as sock:
        head = b"POST /topics/later%d/messages?delay=%dms HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
        due = time.monotonic() + 8
        for first in range(0, 5_000, 50):
            left = int((due - time.monotonic()) * 1_000)
            sock.sendall(b"".join(head % (number % 7, max(left, 1)) for number in range(first, first + 50)))
            seen = b""
            while seen.count(b'"scheduled":') < 50:
                seen += receive_some(sock)
    time.sleep(max(due - time.monotonic() - 0.5, 0))


ROWS: Final = (
    Row("nothing", lambda _: time.sleep(1.0), rounds=1),
    # Reading
    Row("page, last:10 of a pattern that matches nothing", _get("/topics/nope.**/messages?since=last:10")),
    Row("the same, 8 at once", lambda asker: asker.at_once(8, _get("/topics/nope.**/messages?since=last:10"))),
    Row("page, last:all of **", _get("/topics/**/messages?since=last:999999999")),
    Row("page, last:half of **", _last_half("**")),
    Row("page, last:half of a topic", _last_half(BIG)),
    Row("page, last:10 of t.*", _get("/topics/t.*/messages?since=last:10")),
    Row("page, earliest of a pattern that matches nothing", _get("/topics/*.*.nope/messages")),
    Row("page, earliest of the last topic of t.*", _get("/topics/t.9999/messages")),
    Row("page, 1h ago of a pattern that matches nothing", _get("/topics/*.*.nope/messages?since=1h")),
    Row("page, 1,000 messages of **", _get("/topics/**/messages?limit=1000")),
    Row("page, an id of another epoch, **", _get("/topics/**/messages?since=old-5&limit=1")),
    Row("long poll, pattern, 1 s", _get("/topics/*.*.nope/messages?since=latest&wait=1s")),
    Row("stream, 64 patterns, last:10", _wide("last:10")),
    Row("stream, 64 patterns, earliest", _wide("earliest")),
    Row("stream, 64 patterns, another epoch", _wide("old-5")),
    Row("stream of everything from earliest (export)", _stream("/topics/**/stream?since=earliest", 5.0)),
    Row("line port: last_seen in the middle", _last_seen),
    # Topics
    Row("list of topics", _get("/topics")),
    Row("list of topics, match of nothing", _get("/topics?match=nope.**")),
    Row("list of topics, match", _get("/topics?match=*.*")),
    Row("line port: topics", lambda asker: asker.speak(b"topics\nping\n", b"OK pong")),
    Row("state of a topic", _get(f"/topics/{BIG}")),
    # Groups
    Row("make a group", _group("g"), rounds=1),
    Row("make a second group", _group("h"), rounds=1),
    Row("make a group at latest", _group("i", {"start": "latest"}), rounds=1),
    Row("delete a group, the last of three", _no_group("i"), rounds=1, after=0.2),
    Row("delete a group, two are left", _no_group("h"), rounds=1, after=0.2),
    Row("delete the only group", _no_group("g"), rounds=1, after=0.2),
    Row("make the twelfth group", _group("g11"), _all(*(_group(f"g{number}") for number in range(11))), rounds=1),
    Row("state of one of 12 groups", _get(f"/topics/{BIG}/groups/g3")),
    Row("/metrics with 12 groups", _get("/metrics")),
    Row("change a group", _group("g3", {"max_deliveries": 5})),
    Row("pull 100", lambda asker: asker.pull(BIG, "g1"), rounds=1),
    _settle_1000("ack", "g2"),
    _settle_1000("extend", "g3"),
    _settle_1000("nack", "g4"),
    Row("1,000 die at once", _die, _group("dies", {"max_deliveries": 1}), rounds=1, after=1.0),
    Row("20,000 delays end", lambda _: None, _all(_group("held"), _leases_that_end), rounds=1, after=7.0),
    Row("state of a group with 20,000 jobs", _get(f"/topics/{BIG}/groups/held")),
    Row("delete a group with 20,000 jobs", _no_group("held"), rounds=1, after=0.5),
    Row("publish with 12 groups", lambda asker: asker.call("POST", f"/topics/{BIG}/messages", b"x", "text/plain")),
    # Writing
    Row("batch of 16 MB in 10,000 lines", _batch(16 << 20)),
    Row("batch of 10,000 lines of 9 bytes", _batch(100_000)),
    Row("batch of 16 MB in 16 lines", _batch(16 << 20, 17)),
    Row("delayed batch", _batch(100_000, topic="delayed", options="?delay=1s"), rounds=1, after=2.0),
    Row("batch of 10,000 lines for one", _batch(100_000, topic="one", options="?delivery=one"), rounds=1),
    Row("a reader comes for them", _stream("/topics/one/stream", 3.0), rounds=1),
    Row(
        "batch of 10,000 lines for one who is there", _batch(100_000, topic="taken", options="?delivery=one"),
        _meanwhile(_stream("/topics/taken/stream", 3.0)), rounds=1, after=1.0,
    ),
    Row(
        "batch of 10,000 lines for all who are there", _batch(100_000, topic="heard"),
        _meanwhile(_stream("/topics/heard/stream", 3.0)), rounds=1, after=1.0,
    ),
    Row("batch with a ttl, which ends", _batch(100_000, topic="ttl", options="?ttl=1s"), rounds=1, after=2.0),
    Row("5,000 delayed messages are due", lambda _: None, _delayed, rounds=1, after=3.0),
    # Giving up
    _shrink("trim1", {"max_messages": 10}),
    _shrink("trim2", {"max_bytes": 1_000}),
    _shrink("trim3", {"max_age": "1ms"}),
    Row("delete a topic", _no_topic("trim4"), lambda asker: asker.big("trim4"), rounds=1, after=1.0),
    Row("delete a topic with 12 groups", _no_topic(BIG), rounds=1, after=1.0),
)  # fmt: skip


def measure(asker: Asker, prober: Prober, row: Row) -> tuple[float, Wait]:
    """Seconds that the verb took, and the longest wait of the publisher."""
    rounds: list[tuple[float, Wait]] = []
    for _ in range(row.rounds):
        row.prepare(asker)
        time.sleep(0.3)
        prober.longest()
        begun = time.perf_counter()
        row.ask(asker)
        took = time.perf_counter() - begun
        time.sleep(row.after)
        rounds.append((took, prober.longest()))
    took, waits = min(took for took, _ in rounds), [wait for _, wait in rounds]
    return took, Wait(*map(min, zip(*waits, strict=True)))


@contextmanager
def filled(engine: str, messages: int, topics: int, *flags: str) -> Iterator[tuple[Asker, Prober]]:
    with start_server("--engine", engine, *_FLAGS, *flags) as server:
        drain = Thread(target=lambda: server.process.stderr and [*server.process.stderr], daemon=True)
        drain.start()
        asker = Asker(server, messages, topics)
        asker.big()
        asker.fill(lambda number: f"t.{number}", topics)
        prober = Prober(server)
        try:
            yield asker, prober
        finally:
            prober.close()


def tell(name: str, took: float, longest: Wait) -> None:
    columns = "".join(f"{seconds * 1e3:10.1f} ms" for seconds in (took, *longest))
    print(f"  {name:54s}{columns}", flush=True)  # noqa: T201


TOKENS: Final = {"10,000 tokens are read again": 1, "10,000 tokens of 64 patterns are read again": 64}


TOKENS_TAKE: Final = 5.0  # seconds, at most


def token_file(patterns: int, generation: int) -> bytes:
    """10,000 lines; but for the first, which is the publisher's, none is as it was in another generation."""
    names = [f"rooms.{generation}.{number}.*.b.**" for number in range(patterns)]
    rights = [["probe"], *[names] * 9_999]
    return b"".join(
        msgspec.json.encode({"name": f"n{n}", "sha256": sha256(b"%d" % n).hexdigest(), "publish": right}) + b"\n"
        for n, right in enumerate(rights)
    )


def measure_tokens(name: str, patterns: int, folder: Path) -> None:
    path, new = folder / f"tokens{patterns}", folder / "new"
    for file, generation in ((path, 0), (new, 1)):
        file.touch(0o600)
        file.write_bytes(token_file(patterns, generation))
    with start_server("--tokens", str(path), "--auth", "required") as server:
        prober = Prober(server, b"Authorization: Bearer 0\r\n")
        new.replace(path)
        time.sleep(TOKENS_TAKE)
        tell(name, TOKENS_TAKE, prober.longest())
        prober.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--engine", choices=["memory", "sqlite"])
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--topics", type=int, default=10_000)
    parser.add_argument("--folder", default="/var/tmp")  # noqa: S108
    options = parser.parse_args()
    rows = [row for row in ROWS if not options.rows or any(word in row.name for word in options.rows)]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for engine in ("memory", "sqlite"):
            if options.engine in {None, engine}:
                print(f"{engine:56s}{'took':>13s}{'longest wait':>13s}{'its CPU':>13s}{'its loop':>13s}")  # noqa: T201
                url = engine if engine == "memory" else f"sqlite://{folder}/log.db"
                with filled(url, options.messages, options.topics, "--topic-idle", "30m") as (asker, prober):
                    for row in rows:
                        tell(row.name, *measure(asker, prober, row))
        for name, patterns in TOKENS.items():
            if not options.rows or any(word in name for word in options.rows):
                measure_tokens(name, patterns, Path(folder))


if __name__ == "__main__":
    main()
