"""The cluster to try out, docs/cluster: its files fit together, and its script runs as a reader would run it."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import yaml

from app.settings import OPTIONS, variable
from tests.event_stream import SseParser
from tests.harness import DEADLINE, ROOT

FOLDER = ROOT / "docs" / "cluster"
CONFIGURATION = ("haproxy.cfg", "plainmq.env", "redis.conf", "sentinel.conf")
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NO_HAPROXY = pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("failures", FOLDER / "failures.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def address(service: str) -> str:
    found: str = SERVICES[service]["networks"]["cluster"]["ipv4_address"]
    return found


def test_each_part_has_an_image_or_is_built_from_the_dockerfile() -> None:
    for name, service in SERVICES.items():
        built = "build" in service and (FOLDER / service["build"] / "Dockerfile").is_file()
        assert built or re.fullmatch(r"[a-z]+:[0-9.]+", service["image"]), name
        assert set(service.get("depends_on", [])) <= SERVICES.keys()
        assert set(service["networks"]) <= COMPOSE["networks"].keys()


def test_every_file_that_a_part_gets_is_there() -> None:
    files = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    files |= {service["env_file"] for service in SERVICES.values() if "env_file" in service}
    assert {f"./{name}".removeprefix("./") for name in CONFIGURATION} == {name.removeprefix("./") for name in files}
    assert all((FOLDER / name).is_file() for name in files)


def test_ports_are_open_for_this_machine_only_since_no_token_is_needed() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8000:8000", "127.0.0.1:7777:7777"]


def test_addresses_in_the_configuration_are_those_of_the_parts() -> None:
    text = "\n".join((FOLDER / name).read_text() for name in CONFIGURATION)
    text += "".join(service.get("command", "") for service in SERVICES.values())
    assert {*re.findall(r"172\.[\d.]+\d", text)} == {
        address(name) for name in ("redis-1", "sentinel", "plainmq-1", "plainmq-2")
    }
    assert f"sentinel monitor main {address('redis-1')} 6379" in text
    assert f"--replicaof {address('redis-1')} 6379" in SERVICES["redis-2"]["command"]
    assert f"redis+sentinel://{address('sentinel')}:26379/main/" in text


def test_settings_of_the_servers_are_settings() -> None:
    names = re.findall(r"^(\w+)=", (FOLDER / "plainmq.env").read_text(), re.MULTILINE)
    assert names
    assert set(names) <= {variable(option.name) for option in OPTIONS}


def test_the_image_has_what_the_engine_of_the_example_needs() -> None:
    assert re.search(r"pip install .*\[.*redis.*\]", (ROOT / "Dockerfile").read_text())


def test_the_script_uses_the_same_configuration_and_nothing_but_this_machine(
    script: ModuleType, tmp_path: Path
) -> None:
    cluster = script.Local(tmp_path)
    assert set(script.VICTIMS) < SERVICES.keys() == cluster._commands.keys()
    for name in CONFIGURATION:
        ours = cluster._text(name)
        assert "172." not in ours
        assert not re.search(r"^\s*(bind (:|\*)|port 26379$)", ours, re.MULTILINE)
        assert ours != (FOLDER / name).read_text()


@NO_HAPROXY
def test_haproxy_accepts_its_configuration(script: ModuleType, tmp_path: Path) -> None:
    cluster = script.Local(tmp_path)
    done = subprocess.run(["haproxy", "-c", "-f", cluster._commands["haproxy"][-1]], check=False, capture_output=True)
    assert not done.returncode, done.stderr.decode()


@NO_HAPROXY
def test_while_no_server_is_there_haproxy_asks_an_event_source_to_reconnect_and_others_get_an_error(
    script: ModuleType, tmp_path: Path
) -> None:
    """A browser's EventSource is closed for good by a 503, also before haproxy has noticed that a server is down."""
    cluster = script.Local(tmp_path)
    haproxy = subprocess.Popen(cluster._commands["haproxy"], stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(
            base_url=cluster.url, headers={"Accept": "text/event-stream"}, timeout=DEADLINE,
            transport=httpx.HTTPTransport(retries=8),
        ) as http:  # fmt: skip
            for path in ("/topics/a/stream", "/stream?topic=a", "/topics/a/groups/g/stream"):
                away = http.get(path)
                assert (away.status_code, away.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
                parser = SseParser()
                (event,) = parser.feed(away.content)
                assert (event.type, json.loads(event.data)) == ("busy", {"reason": "unreachable"})
                assert parser.retry
                assert http.get(path, headers={"Accept": "*/*"}).status_code == 503
            for answer in (
                http.get("/topics/a/messages"),
                http.post("/topics/a/messages"),
                http.delete("/topics/stream"),
            ):
                assert answer.status_code == 503
    finally:
        haproxy.terminate()
        haproxy.wait(DEADLINE)


@NO_HAPROXY
@pytest.mark.slow
def test_a_counter_misses_nothing_while_a_server_and_the_primary_are_killed() -> None:
    command = [sys.executable, str(FOLDER / "failures.py"), "plainmq-1", "redis-1"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
    assert not done.returncode, done.stdout + done.stderr
    assert re.search(r" 0   plainmq-1 was killed: .*\n.* 0   plainmq-1 is back\n", done.stdout)
    assert re.search(r" 0   redis-1 was killed: .*\n.* 0   redis-1 is back\n", done.stdout)
    assert re.search(r"^all \d+ numbers came, each once and in order$", done.stdout, re.MULTILINE)
