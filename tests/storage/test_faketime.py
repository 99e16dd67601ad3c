"""The same from outside: the clock of a server is set, also meanwhile."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.fake_clock import LIBRARY, FakeClock
from tests.harness import DEADLINE, ServerProcess, start_server

DAY = 86_400.0

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not here")


class Machine:
    """A server on one file, and the clock that it sees."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.db"
        self._clock = FakeClock(folder)
        self.step = self._clock.step

    @contextmanager
    def serving(self, *flags: str, engine: str = "sqlite") -> Iterator[ServerProcess]:
        url = {"sqlite": f"sqlite:{self._path}", "memory": "memory"}[engine]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self._clock.environment.items():
                patch.setenv(name, value)
            with start_server("--engine", url, *flags, tcp_port=0) as server:
                yield server


def publish(server: ServerProcess, topic: str, **query: str) -> httpx.Response:
    url = f"{server.url}/topics/{topic}/messages"
    return httpx.post(url, content="x", params=query, headers={"Content-Type": "text/plain"}).raise_for_status()


def times(server: ServerProcess, topic: str, since: str = "earliest") -> list[float]:
    answer = httpx.get(f"{server.url}/topics/{topic}/messages", params={"since": since}).raise_for_status()
    return [datetime.fromisoformat(message["time"]).timestamp() for message in answer.json()["messages"]]


def test_a_clock_that_is_set_while_the_server_runs_is_followed_and_takes_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with machine.serving("--max-age", "1h") as server:
        publish(server, "t", ttl="1h")
        publish(server, "late", delay="1h")
        machine.step(DAY)
        publish(server, "t")
        first, second = times(server, "t")
        assert DAY < second - first < DAY + DEADLINE
        assert len(times(server, "t", since=datetime.fromtimestamp(first + DAY / 2).astimezone().isoformat())) == 1
        assert len(times(server, "t", since="10m")) == 2
        due = datetime.fromisoformat(publish(server, "late", delay="1h").json()["due"]).timestamp()
        assert abs(due - (time.time() + DAY + 3_600)) < DEADLINE
        server.stop(signal.SIGKILL)
    with machine.serving("--max-age", "1h") as server:
        assert times(server, "t") == [first, second]
        assert httpx.get(f"{server.url}/topics/late").json()["delayed"] == 2
        machine.step(0.0)
        publish(server, "t")
        assert times(server, "t") == [first, second, second]  # it does not run backward
        httpx.delete(f"{server.url}/topics/t").raise_for_status()
    with machine.serving("--max-age", "1h") as server:
        publish(server, "t")
        assert abs(times(server, "t")[0] - time.time()) < DEADLINE


def test_a_clock_that_is_set_between_two_runs_removes_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for step in (0.0, DAY, -DAY):
        machine.step(step)
        with machine.serving("--max-age", "1h") as server:
            publish(server, "t", ttl="1h")
            assert len(times(server, "t")) == {0.0: 1, DAY: 2, -DAY: 3}[step]
            server.stop(signal.SIGKILL)


def scheduled(server: ServerProcess) -> dict[str, float]:
    """When each topic's publish is due."""
    listed = httpx.get(f"{server.url}/scheduled").raise_for_status().json()["scheduled"]
    return {publish["topic"]: datetime.fromisoformat(publish["due"]).timestamp() for publish in listed}


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_a_publish_at_a_time_of_day_follows_the_wall_clock_and_one_with_a_delay_does_not(
    tmp_path: Path, engine: str
) -> None:
    machine = Machine(tmp_path)
    with machine.serving(engine=engine) as server:
        at = int(time.time()) + 3_600
        publish(server, "at", at=datetime.fromtimestamp(at, UTC).isoformat())
        publish(server, "delay", delay="1h")
        for step in (1_800.0, -DAY, 0.0):
            machine.step(step)
            due = scheduled(server)
            assert due["at"] == at
            assert abs(due["delay"] - (time.time() + step + 3_600)) < DEADLINE
            assert list(due) == (["at", "delay"] if step >= 0.0 else ["delay", "at"])
        machine.step(3_700.0)
        waited = httpx.get(f"{server.url}/topics/at/messages", params={"wait": "20s"})  # which asks nothing of the log
        assert [message["data"] for message in waited.json()["messages"]] == ["x"]
        assert list(scheduled(server)) == ["delay"]


def test_a_publish_at_a_time_of_day_follows_a_clock_that_is_set_between_two_runs(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    at = int(time.time()) + 3_600
    with machine.serving() as server:
        publish(server, "at", at=datetime.fromtimestamp(at, UTC).isoformat())
        server.stop(signal.SIGKILL)
    machine.step(1_800.0)
    with machine.serving() as server:
        assert scheduled(server) == {"at": at}
        server.stop()
    machine.step(3_700.0)
    with machine.serving() as server:
        waited = httpx.get(f"{server.url}/topics/at/messages", params={"wait": "20s"})
        assert [message["data"] for message in waited.json()["messages"]] == ["x"]
