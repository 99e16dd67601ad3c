"""What is in memory besides the file is known again by the next server, and bounded there too."""

from pathlib import Path

import httpx
import pytest

from app.errors import LogFull
from app.log.groups.job import JOB_COST
from app.log.groups.size import GROUP_COST
from app.log.run import EXPIRY_COST, ONE_COST
from app.log.topic_log import Limits, weigh
from app.messages.message import ONE
from tests.harness import DEADLINE, draft, start_server
from tests.storage.reopening import LogFile


async def test_what_was_taken_is_taken_after_a_restart(tmp_path: Path) -> None:
    later = draft("a", b"later", delay=1_000.0)
    room = GROUP_COST + 2 * JOB_COST + EXPIRY_COST + ONE_COST + weigh([later]).memory
    log_file, limits = LogFile(tmp_path), Limits(memory_bytes=room)
    async with log_file.open(limits) as node:
        await node.engine.append([draft("a", b"1", ttl=1_000.0)])
        await node.engine.append([draft("a", b"2", delivery=ONE)])
        await node.engine.append([later])
        await node.engine.configure_group("b", "g", {})
        await node.engine.append([draft("b", b"1", b"2", b"3")])
        assert len(await node.engine.claim("b", "g", count=9, nbytes=100, seconds=100.0)) == 2
    async with log_file.open(limits) as node:
        for more in (draft("c", b"", ttl=1_000.0), draft("c", b"", delivery=ONE), draft("c", b"", delay=1_000.0)):
            with pytest.raises(LogFull):
                await node.engine.append([more])
        with pytest.raises(LogFull):
            await node.engine.claim("b", "g", count=1, nbytes=100, seconds=100.0)
        await node.engine.drop("a")
        assert len(await node.engine.claim("b", "g", count=9, nbytes=100, seconds=100.0)) == 1


@pytest.mark.parametrize(
    ("small", "query", "other"),
    [
        ("max_disk_bytes", "", "max_total_bytes"), ("max_disk_bytes", "group", "max_total_bytes"),
        ("max_total_bytes", "?delay=1h", "max_disk_bytes"), ("max_total_bytes", "group", "max_disk_bytes"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_bound_that_was_met(tmp_path: Path, small: str, query: str, other: str) -> None:
    flags = ["--max-message", "100B", f"--{small.replace('_', '-')}", "10KiB", "--engine", f"sqlite:{tmp_path}/log.db"]
    with start_server(*flags, tcp_port=0) as server, httpx.Client(base_url=server.url, timeout=DEADLINE) as client:
        for n in range(100):
            path = f"/topics/a/groups/g{n}" if query == "group" else f"/topics/a/messages{query}"
            answer = client.request(
                "PUT" if query == "group" else "POST", path, content=b"" if query == "group" else b"x"
            )
            if not answer.is_success:
                break
        assert answer.status_code == 507
        assert f"raise {small}" in answer.json()["detail"]
        assert other not in answer.json()["detail"]
