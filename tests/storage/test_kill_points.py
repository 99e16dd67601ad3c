"""Killed at each place on the way of a publish to the disk, at the worst moment: the client repeats it with its key."""

import signal
from collections import Counter
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.harness import DEADLINE, ServerProcess, start_server
from tests.storage.crash_ledger import CrashLedger, Publish
from tests.storage.kill_points import POINTS

LAST: Final = 5  # the number of the publish that never gets its answer
STORED: Final = {"after COMMIT", "before the answer"}


def post(ledger: CrashLedger, server: ServerProcess, publish: Publish) -> None:
    headers = {"Idempotency-Key": publish.key, "Content-Type": "application/x-ndjson"}
    path = f"{server.url}/topics/{publish.topic}/messages"
    answer = httpx.post(path, content="\n".join(publish.bodies), headers=headers)
    ledger.statuses[answer.status_code] += 1
    ledger.told[publish.key].add((answer.json()["id"], answer.json()["index"]))


@pytest.mark.parametrize("point", POINTS)
def test_killed_on_the_way_to_the_disk_a_publish_counts_once_when_it_is_repeated(point: str, tmp_path: Path) -> None:
    flags = ["--engine", f"sqlite:{tmp_path}/log.db", "--min-free-disk", "0"]
    ledger = CrashLedger([Publish("p", n, "t", [f"{n}.{part}" for part in range(3)]) for n in range(LAST + 3)])
    with start_server(*flags, tcp_port=0, program=["tests.storage.kill_points", point, str(LAST)]) as server:
        for publish in ledger.sent[: LAST - 1]:
            post(ledger, server, publish)
        with pytest.raises(httpx.TransportError):
            post(ledger, server, ledger.sent[LAST - 1])
        assert server.process.wait(DEADLINE) == -signal.SIGKILL
    with start_server(*flags, tcp_port=0) as server:
        for publish in ledger.sent[LAST - 1 :]:
            post(ledger, server, publish)
        assert server.stop() == 0
    stored = point in STORED
    assert ledger.statuses == Counter({201: LAST + 3 - stored, 200: int(stored)})
    assert ledger.faults(tmp_path / "log.db") == {}
