"""Stalls: the longest time that a publish waits while another client makes the most expensive requests.

    python -m benchmarks.stalls [--engine memory|sqlite] [--messages N] [--topics N] [ROW ...]

Starts `plainmq serve` with each engine and fills it: one topic with 300,000 messages, each in a run of its own, and
10,000 topics with one message. Then a process publishes to another topic every 5 ms, while this one makes each request
with its most expensive arguments. A row has the time that the request took, the longest wait of a publish meanwhile,
the most CPU time that the server used during one of these waits, and the most CPU time of a turn of the event loop, or
two (publish_probe.py). On a machine with other work, rely on the last two; the row `nothing` shows the noise. Requests
that change nothing are made twice, and the lower figures count. ROW: words; only rows whose name has one of them run.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple

import msgspec

from app.access.tokens import MAX_FILE, MAX_TOKENS
from benchmarks.harness import connect, receive_some
from benchmarks.publish_probe import PublishProbe, Wait
from benchmarks.stall_client import BIG, Json, StallClient
from tests.harness import start_server

WIDE: Final = [".".join(["*", *"abcdefghijklmn", f"z{n}"]) for n in range(64)]  # 16 segments each
_FLAGS: Final = (
    "--max-messages", "10000000", "--max-bytes", "64GiB", "--max-total-bytes", "8GiB", "--max-topics", "50000",
    "--max-batch", "16MiB", "--max-age", "1d", "--max-subscribers", "20000", "--max-client-subscribers", "20000",
)  # fmt: skip

Action = Callable[[StallClient], object]


class Row(NamedTuple):
    """`prepare` is not measured. Waits are measured for `after` seconds longer. The best of the `rounds` counts."""

    name: str
    request: Action
    prepare: Action = lambda _: None
    rounds: int = 2
    after: float = 0.0


def _get(path: str) -> Action:
    return lambda client: client.call("GET", path)


def _stream(path: str, seconds: float = 2.0) -> Action:
    return lambda client: client.read_stream(path, seconds)


def _wide(since: str) -> Action:
    """A stream of 64 patterns."""
    return _stream("/stream?" + "&".join([*(f"topic={name}" for name in WIDE), f"since={since}", "timeout=2s"]))


def _last_half(topic: str) -> Action:
    return lambda client: client.call("GET", f"/topics/{topic}/messages?since=last:{client.messages // 2}")


def _last_topic(client: StallClient) -> None:
    client.call("GET", f"/topics/t.{client.topics - 1}/messages")


def _last_seen(client: StallClient) -> None:
    line = b'{"command":"subscribe","topic":"big","last_seen":%d}\n' % (client.messages // 2)
    client.send_line(line, b'"index"')


def _shrink(topic: str, change: Json) -> Row:
    return Row(
        f"trim a topic by {next(iter(change))}", lambda client: client.call("PUT", f"/topics/{topic}", change),
        lambda client: client.fill_one(topic), rounds=1, after=1.0,
    )  # fmt: skip


def _dead_letter_1000(client: StallClient) -> None:
    client.settle("nack", client.pull(BIG, "dies", 10), "dies")


def _delete_topic(name: str) -> Action:
    return lambda client: client.call("DELETE", f"/topics/{name}")


def _batch(nbytes: int, lines: int = 10_000, topic: str = "batch", options: str = "") -> Action:
    body = b"\n".join([b"y" * (nbytes // lines - 1)] * lines)
    return lambda client: client.call("POST", f"/topics/{topic}/messages{options}", body, "application/x-ndjson")


def _group(name: str, settings: Json | None = None, topic: str = BIG) -> Action:
    return lambda client: client.call("PUT", f"/topics/{topic}/groups/{name}", settings or {})


def _delete_group(name: str, topic: str = BIG) -> Action:
    return lambda client: client.call("DELETE", f"/topics/{topic}/groups/{name}")


def _in_order(*actions: Action) -> Action:
    return lambda client: [action(client) for action in actions]


def _in_background(action: Action) -> Action:
    return lambda client: Thread(target=action, args=(client,), daemon=True).start()


def _settle_1000(action: str, group: str) -> Row:
    ids: list[str] = []
    return Row(
        f"{action} 1,000 ids", lambda client: client.settle(action, ids, group),
        lambda client: ids.__setitem__(slice(None), client.pull(BIG, group, 10)), rounds=1, after=0.2,
    )  # fmt: skip


def _seek(group: str, to: str) -> Action:
    return lambda client: client.call("POST", f"/topics/{BIG}/groups/{group}/seek", {"to": to})


def _skip_1000(client: StallClient) -> None:
    page = msgspec.json.decode(client.call("GET", f"/topics/{BIG}/messages?since=earliest&limit=1000"))
    ids = [message["id"] for message in page["messages"]]
    client.call("POST", f"/topics/{BIG}/groups/sought/skip", {"ids": ids})


def _jobs_deep(client: StallClient) -> None:
    middle = msgspec.json.decode(
        client.call("GET", f"/topics/{BIG}/messages?since=last:{client.messages // 2}&limit=1")
    )
    after = middle["messages"][0]["id"]
    client.call("GET", f"/jobs?topic={BIG}&group=sought&state=ready&after={after}&limit=1000")


def _bury_9000(client: StallClient) -> None:
    client.call("PUT", "/topics/died.dead", {"max_messages": 100_000})
    _group("g", {"max_deliveries": 1}, "died")(client)
    _batch(100_000, 9_000, "died")(client)
    for _ in range(9):
        client.settle("nack", client.pull("died", "g", 10), "g", "died")


def _schedule_all(client: StallClient) -> None:
    """As many delayed messages as there are messages."""
    request = b"POST /topics/scheduled/messages?delay=1h HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
    with connect(client.server.port) as sock:
        for _ in range(client.messages // 50):
            sock.sendall(request * 50)
            answers = b""
            while answers.count(b'"scheduled":') < 50:
                answers += receive_some(sock)


def _subscribe_10000(client: StallClient) -> None:
    """Over ten connections to the line port, which stay open."""
    for connection in range(10):
        names = [f"listened.{connection}.{number}" for number in range(1_000)]
        client.subscribe(names)


def _copy_one(client: StallClient) -> None:
    page = msgspec.json.decode(client.call("GET", f"/topics/{BIG}/messages?since=last:1"))
    client.call("POST", f"/topics/{BIG}/messages/{page['messages'][0]['id']}/copy?to=copies")


def _in_each_topic(client: StallClient) -> None:
    for number in range(client.topics):
        _group("g", topic=f"t.{number}")(client)


def _nack_20000(client: StallClient) -> None:
    ids = client.pull(BIG, "held", 200)
    for first in range(0, len(ids), 1_000):
        client.call("POST", f"/topics/{BIG}/groups/held/nack?delay=6s", {"ids": ids[first : first + 1_000]})


def _publish_delayed(client: StallClient) -> None:
    """Publish 5,000 messages that are due at the same time, and return half a second before."""
    with connect(client.server.port) as sock:
        head = b"POST /topics/later%d/messages?delay=%dms HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
        due = time.monotonic() + 8
        for first in range(0, 5_000, 50):
            remaining = int((due - time.monotonic()) * 1_000)
            sock.sendall(b"".join(head % (number % 7, max(remaining, 1)) for number in range(first, first + 50)))
            answers = b""
            while answers.count(b'"scheduled":') < 50:
                answers += receive_some(sock)
    time.sleep(max(due - time.monotonic() - 0.5, 0))


ROWS: Final = (
    Row("nothing", lambda _: time.sleep(1.0), rounds=1),
    # Reading
    Row("page, last:10 of a pattern without a match", _get("/topics/nope.**/messages?since=last:10")),
    Row("the same, 8 clients", lambda client: client.in_threads(8, _get("/topics/nope.**/messages?since=last:10"))),
    Row("page, last:all of **", _get("/topics/**/messages?since=last:999999999")),
    Row("page, last:half of **", _last_half("**")),
    Row("page, last:half of a topic", _last_half(BIG)),
    Row("page, last:10 of t.*", _get("/topics/t.*/messages?since=last:10")),
    Row("page, earliest of a pattern without a match", _get("/topics/*.*.nope/messages")),
    Row("page, earliest of the last topic of t.*", _last_topic),
    Row("page, 1h ago of a pattern without a match", _get("/topics/*.*.nope/messages?since=1h")),
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
    Row("list of topics, a pattern without a match", _get("/topics?match=nope.**")),
    Row("list of topics, a pattern", _get("/topics?match=*.*")),
    Row("line port: topics", lambda client: client.send_line(b"topics\nping\n", b"OK pong")),
    Row("state of a topic", _get(f"/topics/{BIG}")),
    # Groups
    Row("create a group", _group("g"), rounds=1),
    Row("create a second group", _group("h"), rounds=1),
    Row("create a group at latest", _group("i", {"start": "latest"}), rounds=1),
    Row("delete a group, the last of three", _delete_group("i"), rounds=1, after=0.2),
    Row("delete a group, the last of two", _delete_group("h"), rounds=1, after=0.2),
    Row("delete the only group", _delete_group("g"), rounds=1, after=0.2),
    Row("create the twelfth group", _group("g11"), _in_order(*(_group(f"g{n}") for n in range(11))), rounds=1),
    Row("state of one of 12 groups", _get(f"/topics/{BIG}/groups/g3")),
    Row("/metrics with 12 groups", _get("/metrics")),
    Row("change a group", _group("g3", {"max_deliveries": 5})),
    Row("pull 100", lambda client: client.pull(BIG, "g1"), rounds=1),
    _settle_1000("ack", "g2"),
    _settle_1000("extend", "g3"),
    _settle_1000("nack", "g4"),
    Row(
        "1,000 messages are dead-lettered", _dead_letter_1000, _group("dies", {"max_deliveries": 1}),
        rounds=1, after=1.0,
    ),
    Row("20,000 delays end", lambda _: None, _in_order(_group("held"), _nack_20000), rounds=1, after=7.0),
    Row("state of a group with 20,000 unacked", _get(f"/topics/{BIG}/groups/held")),
    Row("delete a group with 20,000 unacked", _delete_group("held"), rounds=1, after=0.5),
    Row("publish with 12 groups", lambda client: client.call("POST", f"/topics/{BIG}/messages", b"x", "text/plain")),
    # What operators do
    Row("redrive all of 9,000", lambda client: client.call("POST", "/topics/died/groups/g/redrive", {"all": True}),
        _bury_9000, rounds=1, after=0.5),
    Row("seek a group to latest", _seek("sought", "latest"), _group("sought"), rounds=1, after=0.5),
    Row("seek a group to earliest", _seek("sought", "earliest"), rounds=1, after=0.5),
    Row("skip 1,000 ids", _skip_1000, rounds=1, after=0.5),
    Row("jobs, 1,000 in the middle of a group", _jobs_deep),
    Row("copy a message", _copy_one),
    Row("list of scheduled messages", _get("/scheduled?limit=1000"), _schedule_all, rounds=1),
    Row("list of groups, one in each topic", _get("/groups?limit=1000"), _in_each_topic, rounds=1),
    Row("list of groups, a pattern without a match", _get("/groups?match=nope.**")),
    Row("list of 10,000 subscribers", _get("/subscribers?limit=1000"), _subscribe_10000, rounds=1),
    Row("list of subscribers, a pattern without a match", _get("/subscribers?match=nope.**")),
    Row("purge a topic", lambda client: client.call("POST", "/topics/purged/purge"),
        lambda client: client.fill_one("purged"), rounds=1, after=1.0),
    # Writing
    Row("batch of 16 MB in 10,000 lines", _batch(16 << 20)),
    Row("batch of 10,000 lines of 9 bytes", _batch(100_000)),
    Row("batch of 16 MB in 16 lines", _batch(16 << 20, 17)),
    Row("delayed batch", _batch(100_000, topic="delayed", options="?delay=1s"), rounds=1, after=2.0),
    Row("batch of 10,000 lines, delivery one", _batch(100_000, topic="one", options="?delivery=one"), rounds=1),
    Row("a subscriber joins and gets them", _stream("/topics/one/stream", 3.0), rounds=1),
    Row(
        "batch of 10,000 lines, delivery one, with a subscriber",
        _batch(100_000, topic="taken", options="?delivery=one"),
        _in_background(_stream("/topics/taken/stream", 3.0)), rounds=1, after=1.0,
    ),
    Row(
        "batch of 10,000 lines with a subscriber", _batch(100_000, topic="heard"),
        _in_background(_stream("/topics/heard/stream", 3.0)), rounds=1, after=1.0,
    ),
    Row("batch with a ttl, until it expires", _batch(100_000, topic="ttl", options="?ttl=1s"), rounds=1, after=2.0),
    Row("5,000 delayed messages are due", lambda _: None, _publish_delayed, rounds=1, after=3.0),
    # Trimming and deleting
    _shrink("trim1", {"max_messages": 10}),
    _shrink("trim2", {"max_bytes": 1_000}),
    _shrink("trim3", {"max_age": "1ms"}),
    Row("delete a topic", _delete_topic("trim4"), lambda client: client.fill_one("trim4"), rounds=1, after=1.0),
    Row("delete a topic with 12 groups", _delete_topic(BIG), rounds=1, after=1.0),
)  # fmt: skip


def measure(client: StallClient, probe: PublishProbe, row: Row) -> tuple[float, Wait]:
    """Seconds that the request took, and the longest wait of the probe."""
    rounds: list[tuple[float, Wait]] = []
    for _ in range(row.rounds):
        row.prepare(client)
        time.sleep(0.3)
        probe.take_longest()
        begin = time.perf_counter()
        row.request(client)
        took = time.perf_counter() - begin
        time.sleep(row.after)
        rounds.append((took, probe.take_longest()))
    took, waits = min(took for took, _ in rounds), [wait for _, wait in rounds]
    return took, Wait(*map(min, zip(*waits, strict=True)))


@contextmanager
def filled(engine: str, messages: int, topics: int, *flags: str) -> Iterator[tuple[StallClient, PublishProbe]]:
    with start_server("--engine", engine, *_FLAGS, *flags) as server:
        drain = Thread(target=lambda: server.process.stderr and [*server.process.stderr], daemon=True)
        drain.start()
        client = StallClient(server, messages, topics)
        client.fill_one()
        client.fill(lambda number: f"t.{number}", topics)
        probe = PublishProbe(server)
        try:
            yield client, probe
        finally:
            probe.close()


def print_row(name: str, took: float, longest: Wait) -> None:
    columns = "".join(f"{seconds * 1e3:10.1f} ms" for seconds in (took, *longest))
    print(f"  {name:54s}{columns}", flush=True)  # noqa: T201


TOKEN_ROWS: Final = {"10,000 tokens are reloaded": 1, "4 MiB of tokens of 64 patterns are reloaded": 64}
RELOAD_TIME: Final = 5.0  # seconds, at most


def token_file(patterns: int, generation: int) -> bytes:
    """A file of as many tokens as there may be. All but the first, which the probe uses, have other patterns in each
    generation."""
    names = [f"rooms.{generation}.{number}.*.b.**" for number in range(patterns)]
    rights = [["probe"], *[names] * (MAX_TOKENS - 1)]
    lines = [
        msgspec.json.encode({"name": f"n{n}", "sha256": sha256(b"%d" % n).hexdigest(), "publish": right}) + b"\n"
        for n, right in enumerate(rights)
    ]
    return b"".join(lines[: MAX_FILE // max(map(len, lines))])


def measure_tokens(name: str, patterns: int, folder: Path) -> None:
    path, new = folder / f"tokens{patterns}", folder / "new"
    for file, generation in ((path, 0), (new, 1)):
        file.touch(0o600)
        file.write_bytes(token_file(patterns, generation))
    with start_server("--tokens", str(path), "--auth", "required") as server:
        probe = PublishProbe(server, b"Authorization: Bearer 0\r\n")
        new.replace(path)
        time.sleep(RELOAD_TIME)
        print_row(name, RELOAD_TIME, probe.take_longest())
        probe.close()


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
                print(f"{engine:56s}{'took':>13s}{'longest wait':>13s}{'server CPU':>13s}{'turn CPU':>13s}")  # noqa: T201
                url = engine if engine == "memory" else f"sqlite://{folder}/log.db"
                with filled(url, options.messages, options.topics, "--topic-idle", "30m") as (client, probe):
                    for row in rows:
                        print_row(row.name, *measure(client, probe, row))
        for name, patterns in TOKEN_ROWS.items():
            if not options.rows or any(word in name for word in options.rows):
                measure_tokens(name, patterns, Path(folder))


if __name__ == "__main__":
    main()
