"""GET /server: the settings in force and where they come from, and how full the limits are."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
import pytest

from app.client import AsyncClient
from app.settings import OPTIONS
from tests.event_stream import stream
from tests.harness import DEADLINE, ROOT, ServerProcess, start_server, start_uvicorn, start_uvicorn_with

STARTS: Final = ["own protocol", "plain ASGI"]


@pytest.fixture(scope="module", params=STARTS)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with start_server() if request.param == "own protocol" else start_uvicorn() as process:
        yield process


def seen(server: ServerProcess) -> dict[str, Any]:
    answer = httpx.get(f"{server.url}/server", timeout=DEADLINE)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    record: dict[str, Any] = answer.json()
    return record


def limits(server: ServerProcess) -> dict[str, Any]:
    return {limit["name"]: limit for limit in seen(server)["limits"]}


def settings(server: ServerProcess) -> dict[str, tuple[str, str]]:
    return {row["name"]: (row["value"], row["source"]) for row in seen(server)["settings"]}


def test_a_server_says_what_it_is(server: ServerProcess) -> None:
    record = seen(server)
    stats = httpx.get(f"{server.url}/stats").json()["server"]
    shared = ("version", "epoch", "durability", "started", "draining", "unready")
    assert {name: record[name] for name in shared} == {name: stats[name] for name in shared}
    assert record["engine"] == "memory"
    assert {row["name"]: row["help"] for row in record["settings"]} == {
        option.name: option.metadata["help"] for option in OPTIONS
    }
    assert settings(server)["max_topics"] == ("10000", "default")
    assert settings(server)["max_age"] == ("1d", "default")
    assert settings(server)["max_bytes"] == ("8MiB", "default")


async def test_limits_fill_with_what_is_there(server: ServerProcess, topic: str) -> None:
    before = limits(server)
    async with AsyncClient(server.url) as client, stream(server, f"/topics/{topic}/stream"):
        await client.publish(topic, b"x" * 1_000)
        await client.publish(topic, b"later", delay="1h")
        after = limits(server)
        state = await client.server()
    assert [limit.name for limit in state.limits] == [*after]
    assert after["topics"]["used"] == before["topics"]["used"] + 1
    assert after["subscribers"]["used"] == before["subscribers"]["used"] + 1
    assert after["log"]["used"] >= before["log"]["used"] + 1_000
    assert after["held in memory"]["used"] > before["held in memory"]["used"]
    assert after["memory of the process"]["used"] > 1 << 20
    for limit in after.values():
        assert 0 <= limit["used"] <= limit["limit"]
        name = limit["setting"]
        if name is not None and limit["unit"] == "count":
            assert settings(server)[name][0] == str(limit["limit"])


def test_http_connections_are_counted_where_they_are_bounded() -> None:
    with start_server(tcp_port=0) as own, httpx.Client(base_url=own.url) as client:
        counted = {limit["name"]: limit["used"] for limit in client.get("/server").json()["limits"]}
        assert counted["HTTP connections"] == 1
        assert "line connections" not in counted
    with start_uvicorn() as plain:
        assert "HTTP connections" not in limits(plain)
        assert limits(plain)["line connections"]["used"] == 0


def test_each_setting_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("PLAINMQ_MAX_TOPICS=11\nPLAINMQ_MAX_GROUPS=12\nPLAINMQ_MAX_MESSAGES=13\n")
    monkeypatch.setenv("PLAINMQ_MAX_GROUPS", "22")
    monkeypatch.setenv("PLAINMQ_MAX_MESSAGES", "23")
    with _in_folder(tmp_path, monkeypatch), start_server("--max-messages", "33") as own:
        of_own = settings(own)
    with _in_folder(tmp_path, monkeypatch), start_uvicorn_with(PLAINMQ_MAX_AGE="2h") as plain:
        of_plain = settings(plain)
    assert of_own["max_topics"] == of_plain["max_topics"] == ("11", ".env")
    assert of_own["max_groups"] == of_plain["max_groups"] == ("22", "environment")
    assert (of_own["max_messages"], of_plain["max_messages"]) == (("33", "flag"), ("23", "environment"))
    assert (of_own["max_age"], of_plain["max_age"]) == (("1d", "default"), ("2h", "environment"))


def test_no_secret_is_shown(tmp_path: Path) -> None:
    secret = tmp_path / "canary"
    secret.write_bytes(b"canary" * 10)
    secret.chmod(0o600)
    flags = ["--jwt-keys", f"HS256:{secret}", "--auth", "auto", "--data-dir", str(tmp_path)]
    with start_server(*flags) as own:
        token = jwt.encode({"sub": "a", "exp": 1 << 34, "view": ["**"]}, secret.read_bytes(), "HS256")
        answer = httpx.get(f"{own.url}/server", headers={"Authorization": f"Bearer {token}"})
    rows = {row["name"]: row["value"] for row in answer.json()["settings"]}
    assert answer.status_code == 200
    assert "canary" not in answer.text
    assert (rows["jwt_keys"], rows["tokens"], rows["data_dir"]) == ("***", "", str(tmp_path))


def test_a_disk_is_measured(tmp_path: Path) -> None:
    flags = ["--engine", f"sqlite://{tmp_path}/log.db", "--max-disk-bytes", "1GiB", "--min-free-disk", "0"]
    with start_server(*flags, "--max-total-bytes", "64MiB") as server:
        record, found = seen(server), limits(server)
    assert (record["engine"], record["durability"]) == ("sqlite", "disk")
    assert (found["log"]["limit"], found["log"]["setting"]) == (1 << 30, "max_disk_bytes")
    assert found["held in memory"]["limit"] == 64 << 20
    assert 0 < found["disk"]["used"] <= found["disk"]["limit"]


@contextmanager
def _in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Servers are started here."""
    with monkeypatch.context() as patch:
        patch.setattr("tests.harness.ROOT", folder)
        patch.setenv("PYTHONPATH", str(ROOT))
        yield
