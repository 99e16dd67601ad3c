"""What a cluster promises when something fails: three servers and a real Redis under load, and one fault a row.

Publishers, subscribers and workers write down what they were told and what they have read. Then the ledgers are
compared with each other and with the log of each node: nothing may be lost, doubled, out of order or unannounced,
except where a row says that a loss is told, and then exactly there. With `-s`, each row prints its figures.
"""

from typing import Final, NamedTuple

import pytest

from tests.cluster.faults import rows
from tests.cluster.faults.cluster import Cluster, Setup
from tests.cluster.faults.load import Load
from tests.cluster.faults.publishers import JOBS, NO_ANSWER
from tests.cluster.faults.workers import MOST, PULL
from tests.fake_clock import works_with
from tests.harness import DEADLINE
from tests.ledgers.cluster import Stored
from tests.redis_server import PROGRAM

ALWAYS: Final = ("--appendonly", "yes", "--appendfsync", "always")
ONE_REPLICA: Final = Setup(replicas=1)
SMALL: Final = Setup(program="tests.cluster.faults.small")
AWAY: Final = frozenset({503, 504})


class Row(NamedTuple):
    what: str
    act: rows.Act
    refused: frozenset[int]  # what clients may be told: repeat it
    setup: Setup = Setup()
    healed: bool | None = False  # nodes give something back to Redis; None: or not
    lost: bool = False  # messages that were confirmed
    told: bool = False  # of a gap, where subscribers have read past what was lost
    patience: float = DEADLINE  # seconds until a client gives up an answer


LOST: Final = "the journal was lost"  # each server logs it once for each time

# fmt: off
ORDINARY: Final = [  # a few seconds each
    Row("a node is killed", rows.kill_a_node, frozenset({NO_ANSWER})),
    Row("the primary is killed, its replica lags", rows.kill_primary_of_late_replica, AWAY, ONE_REPLICA, healed=True),
    Row("Redis restarts without a file", rows.restart_redis, AWAY, healed=True),
    Row("Redis is full", rows.fill_the_memory, frozenset({507})),
]
SLOW: Final = [
    Row("all nodes are restarted, one after the other", rows.restart_all_nodes, frozenset({NO_ANSWER, 503})),
    Row("a node is stopped for 30 s", rows.stop_a_node(30.0), frozenset({NO_ANSWER, 503}), patience=2.0),
    Row("a node is cut off", rows.cut_a_node_off, AWAY, Setup(timeout="1s", replicas=1, durability="replicated:1")),
    Row("the primary is stopped for 2 s", rows.stop_the_primary, frozenset()),
    Row("the primary is killed, its replica is level", rows.kill_the_primary, AWAY, ONE_REPLICA),
    Row("the primary and all nodes are killed, its replica lags", rows.kill_primary_of_late_replica_and_all_nodes,
        AWAY | {NO_ANSWER}, ONE_REPLICA, lost=True, told=True),
    Row("Sentinel promotes a replica, 20 times", rows.fail_over_by_sentinel, AWAY, Setup(replicas=1, has_sentinel=True),
        healed=None),
    Row("Redis restarts with a file of all writes", rows.restart_redis, AWAY, Setup(ALWAYS)),
    Row("FLUSHALL", rows.delete_everything, AWAY, healed=True),
    Row("FLUSHALL, and no node remembers all", rows.delete_more_than_nodes_remember, AWAY, SMALL, healed=None),
    Row("split brain", rows.split_the_brain, AWAY, Setup(replicas=2), lost=True, told=True),
    Row("split brain, replicated:1", rows.split_the_brain, AWAY, Setup(replicas=2, durability="replicated:1"),
        told=True),
    Row("Redis may delete keys", rows.restart_redis_with_a_wrong_policy, AWAY, healed=True),
    Row("the clock of Redis jumps ahead", rows.set_the_clock_of_redis, frozenset(), Setup(has_clock=True)),
    Row("the clock of Redis was ahead for a moment", rows.set_the_time_of_the_log, frozenset()),
]
# fmt: on
PARAMS: Final = [
    *(pytest.param(row, id=row.what) for row in ORDINARY),
    *(pytest.param(row, id=row.what, marks=pytest.mark.slow) for row in SLOW),
]


@pytest.mark.parametrize("row", PARAMS)
async def test_what_is_lost_and_told_when(row: Row) -> None:
    if row.setup.has_clock and not (PROGRAM and works_with(PROGRAM)):
        pytest.skip("libfaketime does not work with this Redis")
    async with Cluster(row.setup) as cluster:
        load = Load(cluster, row.patience)
        async with load.running():
            await load.progress()
            await row.act(cluster, load)
            await load.progress()
        log = await load.log()
    report(row, cluster, load, log)
    check(row, cluster, load, log)


def check(row: Row, cluster: Cluster, load: Load, log: list[Stored]) -> None:
    ledger = load.ledger
    assert not cluster.logged("Traceback")
    assert {*ledger.refusals} <= row.refused
    faults = ledger.check(log)
    assert bool(faults.pop("lost", 0)) == row.lost
    assert faults == {}
    assert bool(ledger.gaps) == row.told  # a gap in the wrong place is a fault
    assert row.healed in {bool(cluster.healed), None}
    load.jobs.unreceived += PULL * len(load.workers) * len(cluster.logged(LOST))  # the answers of pulls that waited
    if not row.told:  # otherwise leases and acks were lost too
        assert load.jobs.check({body for _, topic, body in log if topic == JOBS}, MOST) == {}


def report(row: Row, cluster: Cluster, load: Load, log: list[Stored]) -> None:
    ledger = load.ledger
    print(
        f"\n{row.what}: {len(log)} messages; the longest publish took {ledger.longest_publish:.2f} s with repetitions, "
        f"the longest delivery {ledger.longest_delivery:.2f} s from then; given back: {cluster.healed} entries, "
        f"{cluster.restored} snapshots; {len(ledger.lost(log))} lost, {ledger.gaps} gaps told; refused "
        f"{dict(sorted(ledger.refusals.items()))}, "
        f"{len(ledger.unknown)} of them unknown and not repeated; {len(load.jobs.leases)} leases"
    )
