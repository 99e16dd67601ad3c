"""What is done to a cluster under load."""

import asyncio
from collections.abc import Awaitable, Callable
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Final

from tests.cluster.faults.cluster import Cluster
from tests.cluster.faults.load import Load
from tests.cluster.faults.publishers import HttpPublisher
from tests.cluster.faults.workers import PULL
from tests.harness import DEADLINE, http_client
from tests.line_client import Lines, lines

Act = Callable[[Cluster, Load], Awaitable[None]]

HOUR: Final = 3_600.0
FAILOVERS: Final = 20
REFUSED: Final = 20  # publishes, until a row goes on


async def kill_a_node(cluster: Cluster, load: Load) -> None:
    await cluster.members[0].end(SIGKILL)
    await load.progress()
    await cluster.members[0].start()


async def restart_all_nodes(cluster: Cluster, load: Load) -> None:
    for member in cluster.members:
        assert await member.end(SIGTERM) == 0
        await load.progress()
        await member.start()
        await load.progress()


def stop_a_node(seconds: float) -> Act:
    """It has leased a job before, and is asked to ack it while it is stopped and others have the job."""

    async def act(cluster: Cluster, load: Load) -> None:
        stopped, other = (member.server for member in cluster.members[:2])
        async with http_client() as http:
            await HttpPublisher(cluster, load.ledger, "job", 1, DEADLINE).publish(http, "job 0", "jobs")
        async with lines(stopped) as late, lines(other) as again:
            first = await lease(late)
            stopped.process.send_signal(SIGSTOP)
            late.send(f"ack jobs g {first}")
            pause = asyncio.create_task(asyncio.sleep(seconds))
            second = await lease(again)
            await load.progress()
            await pause
            stopped.process.send_signal(SIGCONT)
            assert (await late.next()).startswith(b"ERR")
            again.send(f"ack jobs g {second}")
            assert await again.next() == b"OK done\r\n"

    return act


async def lease(worker: Lines) -> str:
    """The one job of this topic."""
    worker.send("work jobs g 1")
    assert (await worker.next()).startswith(b"OK")
    verb, _topic, id, *_ = (await worker.next()).decode().split()
    assert verb == "JOB", verb
    return id


async def cut_a_node_off(cluster: Cluster, load: Load) -> None:
    cut = cluster.members[0]
    load.ledger.publish("cut 0")
    load.ledger.unknown.add("cut 0")
    async with http_client(cut.server.url) as http:
        cut.link.cut()
        unknown = await http.post("/topics/load.a/messages", content="cut 0")
        refused = await http.post("/topics/load.a/messages", content="cut 1")
        history = await http.get("/topics/load.a/messages")
        assert (unknown.status_code, refused.status_code, history.status_code) == (504, 503, 200)
        await load.progress()
        cut.link.mend()
        while not (await http.get("/topics/load.a")).is_success:
            pass


async def stop_the_primary(cluster: Cluster, _load: Load) -> None:
    with cluster.primary.stopped():
        await asyncio.sleep(2.0)


async def kill_the_primary(cluster: Cluster, _load: Load) -> None:
    cluster.fail_over()


async def kill_primary_of_late_replica(cluster: Cluster, load: Load) -> None:
    cluster.replicas[0].lag()
    await load.progress()
    cluster.fail_over()


async def kill_primary_of_late_replica_and_all_nodes(cluster: Cluster, load: Load) -> None:
    cluster.replicas[0].lag()
    await all_read_more(load)
    await asyncio.gather(*(member.end(SIGKILL) for member in cluster.members))
    cluster.fail_over()
    await asyncio.gather(*(member.start() for member in cluster.members))


async def all_read_more(load: Load) -> None:
    """Each subscriber reads a message that was published after this."""
    before = set(load.ledger.sent)
    await load.until(lambda: all(reader.last not in before for reader in load.ledger.readers))


async def fail_over_by_sentinel(cluster: Cluster, load: Load) -> None:
    for _ in range(FAILOVERS):
        old = cluster.primary
        old.kill()
        cluster.primary = cluster.replicas.pop()
        await load.progress()
        await asyncio.to_thread(old.start, "--replicaof", "127.0.0.1", str(cluster.primary.port))
        cluster.replicas.append(old)
        await cluster.until_level()


async def restart_redis(cluster: Cluster, _load: Load) -> None:
    await cluster.restart_primary()


async def delete_more_than_nodes_remember(cluster: Cluster, load: Load) -> None:
    await load.until(lambda: cluster.logged("a snapshot of the log was saved"))
    await load.progress(200)
    cluster.primary.client.flushall()
    await load.until(lambda: cluster.restored)


async def delete_everything(cluster: Cluster, _load: Load) -> None:
    cluster.primary.client.flushall()


async def split_the_brain(cluster: Cluster, load: Load) -> None:
    """One node stays at the old primary, and others go on with the new one, until the old one is gone."""
    one, *others = cluster.members
    old = cluster.promote()
    for member in others:
        member.link.lead_to(cluster.primary.port)
    before = set(load.ledger.sent)
    stayed = load.ledger.readers[0]  # at the first node
    await load.until(lambda: stayed.last not in before)
    await load.progress()
    old.kill()
    one.link.lead_to(cluster.primary.port)


async def fill_the_memory(cluster: Cluster, load: Load) -> None:
    cluster.primary.client.config_set("maxmemory", 1)
    await load.until(lambda: load.ledger.refusals[507] >= REFUSED)
    cluster.primary.client.config_set("maxmemory", 0)


async def restart_redis_with_a_wrong_policy(cluster: Cluster, load: Load) -> None:
    await cluster.restart_primary("--maxmemory-policy", "allkeys-lru")
    confirmed, refused = len(load.ledger.confirmed), load.ledger.refusals[503]
    await load.until(lambda: load.ledger.refusals[503] >= refused + REFUSED)
    assert len(load.ledger.confirmed) == confirmed
    await cluster.restart_primary()


async def set_the_clock_of_redis(cluster: Cluster, load: Load) -> None:
    """Leases end early, some of them before their worker has them."""
    assert cluster.clock
    load.jobs.unreceived += PULL * len(load.workers)
    cluster.clock.step(HOUR)


async def set_the_time_of_the_log(cluster: Cluster, _load: Load) -> None:
    """As a clock leaves it that was ahead for a moment: the time of the log stands still until then."""
    (head,) = cluster.primary.client.scan_iter("*:head")
    time = int(cluster.primary.client.hget(head, "time"))
    cluster.primary.client.hset(head, "time", str(time + int(HOUR * 1e6)))
