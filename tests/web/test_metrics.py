"""GET /metrics: each number is there as it is documented, and moves when it should."""

import asyncio
import re
import resource
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from time import time

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from app.broker.broker import Broker
from app.log.topic_log import Limits
from app.storage.clock import Clock
from app.storage.replicated.engine import ReplicatedEngine
from app.storage.sqlite.engine import SqliteEngine
from app.web.api.prometheus import families_of, prometheus_text
from tests.conftest import SERVERS
from tests.engines.local_journal import LocalJournal, SharedLog
from tests.event_stream import stream
from tests.harness import DEADLINE, ROOT, ServerProcess, draft, http_client, start_server
from tests.line_client import lines

DOCUMENT = (ROOT / "openapi" / "metrics.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.*) \|$", re.MULTILINE)
DOCUMENTED = {name: (kind, set(re.findall(r"\w+", labels)), text) for name, kind, labels, text in ROW.findall(DOCUMENT)}


UNSHARED = {name: row for name, row in DOCUMENTED.items() if not name.startswith("plainmq_journal_")}


class Numbers:
    """What one look at the metrics showed."""

    def __init__(self, text: str) -> None:
        self.families: list[Metric] = list(text_string_to_metric_families(text))
        self.samples = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __getitem__(self, key: str | tuple[str, str]) -> float:
        name, *labels = (key,) if isinstance(key, str) else key
        prefix = "" if name.startswith("process_") else "plainmq_"
        return self.samples[f"{prefix}{name}", *labels]


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """One that nobody else counts on, both ways."""
    with SERVERS[request.param]() as process:
        yield process


async def look(http: httpx.AsyncClient) -> Numbers:
    response = (await http.get("/metrics")).raise_for_status()
    assert response.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
    return Numbers(response.text)


Key = str | tuple[str, str]
KINDS = ("1xx", "2xx", "3xx", "4xx", "5xx")


async def until(http: httpx.AsyncClient, before: Numbers, grown: Mapping[Key, float]) -> None:
    """Wait until these have grown by so much since then."""
    async with asyncio.timeout(DEADLINE):
        while True:
            now = await look(http)
            if {key: now[key] - before[key] for key in grown} == grown:
                return


async def publish(http: httpx.AsyncClient, topic: str, body: str | bytes = "hello", **options: str) -> None:
    (await http.post(f"/topics/{topic}/messages", content=body, params=options)).raise_for_status()


def described(numbers: Numbers) -> dict[str, tuple[str, set[str], str]]:
    """As a row of the table."""
    shown = {}
    for family in numbers.families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels}
        shown[name] = family.type, labels, family.documentation
    return shown


async def test_each_metric_of_the_table_is_there_with_its_type_labels_and_meaning(http: httpx.AsyncClient) -> None:
    shown = described(await look(http))
    assert shown == UNSHARED


async def test_servers_that_share_a_journal_have_all_metrics_of_the_tables() -> None:
    log = SharedLog(time)
    async with Broker(shared_engine(log)) as one, Broker(shared_engine(log)) as other:
        await one.publish([draft("a", b"x")])
        await other.publish([draft("a", b"y")])
        shown = Numbers(prometheus_text(families_of(one, await one.totals())).decode())
        assert described(shown) == DOCUMENTED
        assert (shown["journal_nodes"], shown["journal_connected"], shown["journal_lag_entries"]) == (2, 1, 0)
        assert shown["journal_append_seconds_count"] >= 1


def shared_engine(log: SharedLog) -> ReplicatedEngine:
    return ReplicatedEngine(Limits(), Clock(), LocalJournal(log))


async def test_a_publish_is_counted_and_retained(http: httpx.AsyncClient, topic: str) -> None:
    before = await look(http)
    await publish(http, topic, "12345")
    await until(
        http, before, {"messages_published_total": 1, "topics": 1, "messages": 1, "messages_bytes": 5, "groups": 0}
    )
    assert (await look(http))["log_bytes"] > before["log_bytes"]
    await http.delete(f"/topics/{topic}")
    await until(http, before, {"messages_published_total": 1, "topics": 0, "messages": 0, "messages_bytes": 0})


async def test_a_message_counts_as_delivered_once_for_each_subscriber(
    http: httpx.AsyncClient, server: ServerProcess, topic: str
) -> None:
    before = await look(http)
    path = f"/topics/{topic}/stream"
    async with stream(server, path) as one, stream(server, path) as two, lines(server) as three:
        three.send(f"sub {topic}")
        await three.next()
        await until(http, before, {("subscribers", "stream"): 2, ("subscribers", "line"): 1})
        await publish(http, topic)
        assert [await one.data(1), await two.data(1)] == [["hello"], ["hello"]]
        assert b"hello" in await three.next()
        await until(http, before, {"messages_delivered_total": 3})
        await publish(http, topic, delivery="one")
        await until(http, before, {"messages_delivered_total": 4})
        assert (await look(http))["delivered_bytes_total"] > before["delivered_bytes_total"] + 4 * len("hello")
    await until(http, before, {("subscribers", "stream"): 0, ("subscribers", "line"): 0})


async def test_what_is_read_from_the_log_is_delivered_too(
    http: httpx.AsyncClient, server: ServerProcess, topic: str
) -> None:
    await publish(http, topic, "1")
    await publish(http, topic, "2")
    before = await look(http)
    async with stream(server, f"/topics/{topic}/stream?since=earliest") as subscriber:
        assert await subscriber.data(2) == ["1", "2"]
        await until(http, before, {"messages_delivered_total": 2, "messages_published_total": 0})


async def test_a_long_poll_is_shown(http: httpx.AsyncClient, topic: str) -> None:
    before = await look(http)
    waiting = asyncio.create_task(http.get(f"/topics/{topic}/messages", params={"wait": "20s"}))
    await until(http, before, {("subscribers", "read"): 1})
    await publish(http, topic)
    assert (await waiting).status_code == 200
    await until(http, before, {("subscribers", "read"): 0, "messages_delivered_total": 0})


async def test_a_message_goes_through_the_stages_of_its_group(http: httpx.AsyncClient, topic: str) -> None:
    before = await look(http)
    group = f"/topics/{topic}/groups/g"
    for body in ("1", "2", "3"):
        await publish(http, topic, body)
    (await http.put(group, json={"max_deliveries": 1})).raise_for_status()
    await until(http, before, {"groups": 1, "group_lag_messages": 3, ("group_messages", "ready"): 3})
    pulled = (await http.post(f"{group}/pull", params={"max": 2})).raise_for_status().json()["messages"]
    ids = [message.get("lease", message["id"]) for message in pulled]
    leased: dict[Key, float] = {("group_messages", "ready"): 1, ("group_messages", "leased"): 2}
    await until(http, before, {**leased, "group_lag_messages": 3, "messages_delivered_total": 2})
    (await http.post(f"{group}/ack", json={"ids": ids[:1]})).raise_for_status()
    await until(http, before, {"messages_acked_total": 1, "group_lag_messages": 2})
    (await http.post(f"{group}/nack", json={"ids": ids[1:]})).raise_for_status()
    await until(http, before, {"messages_dead_total": 1, "dead_messages": 1, "group_lag_messages": 1})
    await until(http, before, {"messages_published_total": 4})  # the dead one anew


async def test_a_second_ack_frees_nothing_more(http: httpx.AsyncClient, topic: str) -> None:
    group = f"/topics/{topic}/groups/g"
    await publish(http, topic)
    (pulled,) = (await http.post(f"{group}/pull")).raise_for_status().json()["messages"]
    ids = {"ids": [pulled["id"]]}
    (await http.post(f"{group}/ack", json=ids)).raise_for_status()
    before = await look(http)
    (await http.post(f"{group}/ack", json=ids)).raise_for_status()
    await until(http, before, {"log_bytes": 0, "group_lag_messages": 0, "messages_acked_total": 0})


async def test_a_worker_is_counted_while_it_works(http: httpx.AsyncClient, server: ServerProcess, topic: str) -> None:
    await publish(http, topic)
    (await http.put(f"/topics/{topic}/groups/g")).raise_for_status()
    before = await look(http)
    async with stream(server, f"/topics/{topic}/groups/g/stream") as worker:
        await worker.take(1)
        await until(http, before, {("subscribers", "worker"): 1, "messages_delivered_total": 1})
    await until(http, before, {("subscribers", "worker"): 0})


async def test_a_refusal_counts_under_its_code_at_every_endpoint(
    http: httpx.AsyncClient, server: ServerProcess, topic: str
) -> None:
    before = await look(http)
    assert (await http.get(f"/topics/{topic}")).status_code == 404
    assert (await http.post("/topics/a%20b/messages", content="")).status_code == 400
    assert (await http.post(f"/topics/{topic}/messages", content=b"x" * (2 << 20))).status_code == 413
    assert (await http.get("/livez", headers={"Host": "elsewhere.example"})).status_code == 421
    async with lines(server) as peer:
        peer.send("sub a b", "nonsense")
        assert all([(await peer.next()).startswith(b"ERR") for _ in range(2)])
    codes = {"not_found": 1.0, "message_too_large": 1.0, "host_unknown": 1.0, "unknown_command": 1.0}
    await until(http, before, {("refusals_total", code): count for code, count in codes.items()})


async def test_a_gap_that_is_reported_is_counted(http: httpx.AsyncClient, server: ServerProcess, topic: str) -> None:
    before = await look(http)
    async with stream(server, f"/topics/{topic}/stream", Last_Event_ID="00000000-1") as subscriber:
        assert (await subscriber.take(1))[0].type == "gap"
    await until(http, before, {"gaps_total": 1})
    page = (await http.get(f"/topics/{topic}/messages", params={"since": "00000000-1"})).raise_for_status()
    assert page.json()["gap"]
    await until(http, before, {"gaps_total": 2})


async def test_messages_that_a_gap_leaves_out_are_counted(
    http: httpx.AsyncClient, server: ServerProcess, topic: str
) -> None:
    (await http.put(f"/topics/{topic}", json={"max_messages": 1})).raise_for_status()
    for body in "abcd":
        await publish(http, topic, body)
    last: str = (await http.get(f"/topics/{topic}")).json()["last"]
    start = f"{last.partition('-')[0]}-0"  # before all messages, so it is known how many have gone
    before = await look(http)
    async with stream(server, f"/topics/{topic}/stream", Last_Event_ID=start) as subscriber:
        assert [event.type for event in await subscriber.take(2)] == ["gap", "message"]
    await until(http, before, {"gap_messages_total": 3})
    page = (await http.get(f"/topics/{topic}/messages", params={"since": start})).raise_for_status()
    assert page.json()["gap"]["missed"] == 3
    await until(http, before, {"gap_messages_total": 6})
    pulled = (await http.post(f"/topics/{topic}/groups/g/pull")).raise_for_status()
    assert pulled.json()["gap"]["missed"] == 3
    await until(http, before, {"gap_messages_total": 9, "gaps_total": 3})


async def test_the_delay_of_the_event_loop_is_measured(http: httpx.AsyncClient) -> None:
    before = await look(http)
    async with asyncio.timeout(DEADLINE):
        while (now := await look(http))["event_loop_delay_seconds_count"] == before["event_loop_delay_seconds_count"]:
            pass
    assert now["event_loop_delay_seconds_bucket", "+Inf"] == now["event_loop_delay_seconds_count"]


async def test_a_subscriber_that_reads_nothing_is_cut_off_and_counted() -> None:
    with start_server("--stall-timeout", "200ms", "--send-buffer", "4096") as server:
        async with http_client(server.url) as http:
            before = await look(http)
            with closing(socket.socket()) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.connect((server.host, server.port))
                sock.sendall(b"GET /topics/a/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await until(http, before, {("subscribers", "stream"): 1})
                for _ in range(4):
                    await publish(http, "a", b"x" * 1_000_000)
                await until(http, before, {"evictions_total": 1, ("subscribers", "stream"): 0})


async def test_a_worker_that_takes_nothing_is_cut_off_and_counted_too() -> None:
    with start_server("--stall-timeout", "200ms", "--send-buffer", "4096", tcp_port=0) as server:
        async with http_client(server.url) as http:
            for _ in range(4):
                await publish(http, "a", b"x" * 1_000_000)
            (await http.put("/topics/a/groups/g")).raise_for_status()
            before = await look(http)
            with closing(socket.socket()) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.connect((server.host, server.port))
                sock.sendall(b"GET /topics/a/groups/g/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await until(http, before, {"evictions_total": 1, ("subscribers", "worker"): 0})
            leases: dict[Key, float] = {("group_messages", "leased"): 0, "group_lag_messages": 0}
            await until(http, before, leases)  # others may have at once what it held


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
async def test_many_topics_make_no_more_time_series(count: int) -> None:
    """A hundred thousand: `pytest -m slow tests/web/test_metrics.py`."""
    with start_server("--max-topics", str(count + 1)) as server:
        async with http_client(server.url, timeout=3 * DEADLINE) as http, lines(server) as peer:
            await publish(http, "one")
            (await http.put("/topics/one/groups/g", json={})).raise_for_status()
            before = await look(http)
            for start in range(0, count, 1_000):
                peer.send("".join(f"pub topic.{n} x\n" for n in range(start, start + 1_000)).encode())
                assert all([(await peer.next()).startswith(b"OK") for _ in range(1_000)])
            for n in range(100):
                (await http.put(f"/topics/topic.{n}/groups/g{n}", json={})).raise_for_status()
            after = await look(http)
    assert (after["topics"], after["groups"]) == (count + 1, 101)
    assert after.samples.keys() == before.samples.keys()


async def refuse(http: httpx.AsyncClient, server: ServerProcess, sent: bytes, code: str, status: int) -> None:
    """Send that, get that status, and see both counted."""
    before = await look(http)
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(sent)
    async with asyncio.timeout(DEADLINE):
        assert f" {status} ".encode() in await reader.readline()
    writer.close()
    await until(http, before, {("refusals_total", code): 1})
    kind = f"{status // 100}xx"
    assert (await look(http))["http_requests_total", kind] == before["http_requests_total", kind] + 1


async def test_a_client_refused_before_its_request_is_complete_is_counted_too() -> None:
    with start_server("--head-timeout", "1s", "--body-timeout", "1s", tcp_port=0) as server:
        async with http_client(server.url) as http:
            head, end = b"GET /a HTTP/1.1\r\nHost: localhost\r\n", b"\r\n\r\n"
            body = b"POST /topics/a/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
            for sent, code, status in [
                (head, "request_timeout", 408),
                (body + b"\r\n", "request_timeout", 408),
                (body + b"Idempotency-Key: x\r\n\r\n", "request_timeout", 408),
                (b"GET /" + b"x" * 9_000, "target_too_long", 414),
                (head + b"a: b\r\n" * 101, "head_too_large", 431),
                (head + b"a: " + b"b" * 20_000, "head_too_large", 431),
                (b"nonsense" + end, "not_http", 400),
                (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost" + end, "upgrade_unsupported", 501),
                (head + end, "not_found", 404),
                (b"DELETE /metrics HTTP/1.1\r\nHost: localhost" + end, "method_not_allowed", 405),
            ]:
                await refuse(http, server, sent, code, status)


async def test_requests_are_counted_by_the_class_of_their_status(http: httpx.AsyncClient, topic: str) -> None:
    before = await look(http)
    await publish(http, topic)
    await publish(http, topic, event="by-the-long-way")
    assert (await http.get(f"/topics/{topic}.none")).status_code == 404
    after = await look(http)
    grown = {kind: after["http_requests_total", kind] - before["http_requests_total", kind] for kind in KINDS}
    assert grown == {"1xx": 0, "2xx": 3, "3xx": 0, "4xx": 1, "5xx": 0}  # the first look was counted after it was told


async def test_connections_are_counted_while_they_are_open(http: httpx.AsyncClient, server: ServerProcess) -> None:
    before = await look(http)
    async with lines(server) as one, lines(server) as two:
        for peer in (one, two):
            await peer.synchronise()
        await until(http, before, {("connections", "line"): 2})
    await until(http, before, {("connections", "line"): 0})
    own_protocol = ("plainmq_connections", "http") in before.samples
    if own_protocol:
        async with stream(server, "/topics/a/stream"), stream(server, "/topics/a/stream"):
            await until(http, before, {("connections", "http"): 2})
        await until(http, before, {("connections", "http"): 0})


async def test_one_client_too_many_of_the_line_port_is_a_refusal() -> None:
    with start_server("--max-tcp-clients", "1") as server:
        async with http_client(server.url) as http, lines(server) as one:
            await one.synchronise()
            async with lines(server) as two:
                assert (await two.next()).startswith(b"ERR busy")
            numbers = await look(http)
            assert numbers["refusals_total", "busy"] == 1


async def test_the_process_is_shown(http: httpx.AsyncClient) -> None:
    numbers = await look(http)
    assert numbers["process_resident_memory_bytes"] > 10e6
    assert 0 < numbers["process_open_fds"] < numbers["process_max_fds"]
    assert numbers["process_cpu_seconds_total"] > 0


async def test_each_transaction_of_the_disk_is_timed(tmp_path: Path) -> None:
    with start_server("--engine", f"sqlite://{tmp_path / 'log.db'}", tcp_port=0) as server:
        async with http_client(server.url) as http:
            before = await look(http)
            for _ in range(3):
                await publish(http, "a")
            after = await look(http)
            assert after["commit_seconds_count"] >= before["commit_seconds_count"] + 3
            assert after["commit_seconds_bucket", "+Inf"] == after["commit_seconds_count"]
            assert after["commit_seconds_sum"] > before["commit_seconds_sum"]


async def test_a_log_in_a_file_has_the_same_records(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    for published in (1, 0):  # what was there before the start is retained, and was not published since
        with start_server("--engine", f"sqlite://{path}", tcp_port=0) as server:
            async with http_client(server.url) as http:
                if published:
                    await publish(http, "a", "12345")
                numbers = await look(http)
                assert numbers["messages_published_total"] == published
                assert (numbers["messages"], numbers["messages_bytes"], numbers["topics"]) == (1, 5, 1)
                assert {family.name for family in numbers.families} == {
                    name.removesuffix("_total") for name in UNSHARED
                }
            assert server.stop() == 0


async def test_the_metrics_have_no_options(http: httpx.AsyncClient) -> None:
    answer = await http.get("/metrics", params={"topic": "a"})
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")


async def test_a_failing_disk_is_counted_and_other_metrics_stay(tmp_path: Path) -> None:
    flags = ("--engine", f"sqlite://{tmp_path / 'log.db'}", "--min-free-disk", "0B")
    with start_server(*flags, tcp_port=0) as server:
        async with http_client(server.url) as http:
            await publish(http, "a")
            before = await look(http)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            refused = await http.post("/topics/a/messages", content=b"x" * 100_000)
            code = refused.json()["code"]
            await until(http, before, {("refusals_total", code): 1, "messages_published_total": 0, "messages": 0})
            assert (await look(http))["engine_failures_total"] > before["engine_failures_total"]


async def test_what_the_log_holds_is_left_out_when_it_cannot_be_asked(tmp_path: Path) -> None:
    async with Broker(SqliteEngine(Limits(), Clock(), tmp_path / "log.db")) as broker:
        whole = Numbers(prometheus_text(families_of(broker, await broker.totals())).decode())
    closed = Numbers(prometheus_text(families_of(broker, await broker.totals())).decode())
    left_out = {family.name for family in whole.families} - {family.name for family in closed.families}
    assert left_out == {
        "plainmq_messages_acked", "plainmq_messages_dead", "plainmq_operator_messages", "plainmq_paused_topics",
        "plainmq_paused_groups",
        "plainmq_topics", "plainmq_messages", "plainmq_messages_bytes", "plainmq_log_bytes", "plainmq_groups",
        "plainmq_group_lag_messages", "plainmq_group_messages", "plainmq_dead_messages",
        "plainmq_dead_waiting_messages",
    }  # fmt: skip


async def test_what_operators_do_is_counted(http: httpx.AsyncClient, topic: str) -> None:
    before, group = await look(http), f"/topics/{topic}/groups/g"
    await http.put(group, json={"max_deliveries": 1})
    for body in "123":
        await publish(http, topic, body)
    jobs = (await http.post(f"{group}/pull", params={"max": 3})).json()["messages"]
    await http.post(f"{group}/nack", json={"ids": [jobs[0]["id"]]})
    await http.post(f"{group}/redrive", json={"all": True})
    await http.post(f"{group}/release", json={"ids": [jobs[1]["id"]]})
    await http.post(f"{group}/skip", json={"ids": [jobs[2]["id"]]})
    later = (await http.post(f"/topics/{topic}/messages?delay=1h", content=b"x")).json()
    await http.delete(f"/scheduled/{later['id']}")
    for path in (group, f"/topics/{topic}"):
        await http.post(f"{path}/pause")
    done: dict[Key, float] = {
        ("operator_messages_total", name): 1 for name in ("redriven", "released", "skipped", "cancelled")
    }
    await until(http, before, {**done, "paused_topics": 1, "paused_groups": 1})
    purged = (await http.post(f"/topics/{topic}/purge")).json()["purged"]
    await until(http, before, {("operator_messages_total", "purged"): purged})
    await http.delete(f"/topics/{topic}")
    await until(http, before, {**done, "paused_topics": 0, "paused_groups": 0})
