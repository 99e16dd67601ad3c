"""Lists: what the console asks of a full server.

    python -m benchmarks.lists [--engine memory|sqlite] [--messages N] [--topics N] [--groups N] [--subscribers N]

Fills a server, by default with 1,000,000 messages in 10,000 topics with 1,000 groups, of which one has 10,000 dead and
100 leased messages, and with 1,000 scheduled publishes; `--subscribers` connects so many streams of a topic, by default
none, since each takes a file descriptor on both sides. Then it makes each request of the console's lists with its most
expensive arguments, while another process publishes every 5 ms. The columns are those of benchmarks.stalls: the time of
the request, the longest wait of a publish meanwhile, the CPU time that the server used in it, and the CPU time of a
turn of the event loop, or two. On a machine with other work, rely on the last two.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from typing import Final
from urllib.parse import quote

import msgspec

from benchmarks.harness import connect, receive_until
from benchmarks.publish_probe import NO_WAIT, PublishProbe
from benchmarks.stall_client import StallClient
from benchmarks.stalls import Row, measure, print_row
from tests.harness import ServerProcess, start_server

DEAD: Final = 10_000
SCHEDULED: Final = 1_000
BATCH: Final = 10_000  # messages of one request
WORK: Final = "work"  # the topic of the group with dead messages
_FLAGS: Final = (
    "--max-messages", "10000000", "--max-bytes", "64GiB", "--max-total-bytes", "16GiB", "--max-topics", "50000",
    "--max-age", "1d", "--publish-rate", "0", "--max-subscribers", "15000",
)  # fmt: skip


def fill(client: StallClient, messages: int, topics: int, groups: int) -> None:
    each = max(messages // topics, 1)
    for number in range(topics):
        _publish(client, f"t.{number:05}", each)
    for number in range(groups):
        client.call("PUT", f"/topics/t.{number:05}/groups/g")
    _publish(client, WORK, DEAD + 10_000)
    client.call("PUT", f"/topics/{WORK}.dead", {"max_messages": 10 * DEAD})
    client.call("PUT", f"/topics/{WORK}/groups/g", {"max_deliveries": 1})
    for _ in range(DEAD // 100):
        client.call("POST", f"/topics/{WORK}/groups/g/nack", {"ids": _pull(client)})
    _pull(client)
    for number in range(SCHEDULED):
        client.call("POST", f"/topics/t.{number:05}/messages?delay=1h", b"later", "text/plain")


@contextmanager
def subscribed(server: ServerProcess, count: int) -> Iterator[None]:
    """So many streams of one topic, to which nobody publishes."""
    with ExitStack() as stack:
        for _ in range(count):
            stream = stack.enter_context(closing(connect(server.port)))
            stream.sendall(b"GET /topics/listeners/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            receive_until(stream, b": plainmq")
        yield


def _publish(client: StallClient, topic: str, count: int) -> None:
    for first in range(0, count, BATCH):
        lines = b"\n".join(b"message %d" % number for number in range(first, min(first + BATCH, count)))
        client.call("POST", f"/topics/{topic}/messages", lines, "application/x-ndjson")


def _pull(client: StallClient) -> list[str]:
    answer = msgspec.json.decode(client.call("POST", f"/topics/{WORK}/groups/g/pull?max=100&lease=1h"))
    return [job["id"] for job in answer["messages"]]


def _deep(client: StallClient, path: str, pages: int) -> str:
    """The path of a page after so many."""
    after = ""
    for answer in islice(_pages(client, path), pages):
        after = answer
    return f"{path}&after={quote(after, safe='')}"


def _pages(client: StallClient, path: str) -> Iterator[str]:
    after: str | int | None = ""
    while after is not None:
        part = f"&after={quote(str(after), safe='')}" if after else ""
        after = msgspec.json.decode(client.call("GET", path + part))["next"]
        if after is not None:
            yield str(after)


def rows(client: StallClient) -> list[Row]:
    jobs = f"/jobs?topic={WORK}&group=g&limit=1000&state="
    paths = [
        "/topics?limit=100", "/topics?limit=1000", "/topics?limit=1000&match=t.*", "/topics?limit=100&match=*.09999",
        *(f"/topics?limit=100&sort=-{figure}" for figure in ("messages", "bytes", "delayed", "rate")),
        _deep(client, "/topics?limit=1000&sort=-messages", 8),
        "/groups?limit=100", "/groups?limit=1000", *(
            f"/groups?limit=1000&sort=-{figure}" for figure in ("lag", "leased", "delayed", "dead", "rate")
        ),
        *(jobs + state for state in ("ready", "leased", "delayed", "dead")), _deep(client, f"{jobs}dead", 9),
        "/scheduled?limit=1000", "/scheduled?limit=1000&match=t.*", "/subscribers?limit=1000",
        "/subscribers?limit=1000&search=nobody",
        "/stats?history=true", "/metrics", "/server", f"/topics/{WORK}", f"/topics/{WORK}/groups/g",
        f"/topics/{WORK}/messages?limit=500&since=earliest",
    ]  # fmt: skip
    return [Row(path, lambda client, path=path: client.call("GET", path)) for path in paths]  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["memory", "sqlite"], default="memory")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--topics", type=int, default=10_000)
    parser.add_argument("--groups", type=int, default=1_000)
    parser.add_argument("--subscribers", type=int, default=0)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        start_server(
            "--engine", "memory" if arguments.engine == "memory" else f"sqlite://{folder}/log.db", *_FLAGS
        ) as server,
        subscribed(server, arguments.subscribers),
    ):
        client = StallClient(server, arguments.messages, arguments.topics)
        fill(client, arguments.messages, arguments.topics, arguments.groups)
        probe = PublishProbe(server)
        try:
            slowest, longest = 0.0, NO_WAIT
            for row in rows(client):
                took, wait = measure(client, probe, row)
                slowest, longest = max(slowest, took), type(wait)(*map(max, longest, wait))
                print_row(row.name[:54], took, wait)
            print_row("the longest", slowest, longest)
        finally:
            probe.close()


if __name__ == "__main__":
    main()
