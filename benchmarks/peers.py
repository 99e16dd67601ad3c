"""The servers that are compared: how each is started, and the wire scripts of its endpoints."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from app import __version__
from app.cli.bench.process_tree import ProcessTree
from app.cli.bench.wire_script import WireScript, body, get_stream, http, lines, literal, post
from benchmarks.harness import child
from tests.harness import free_port

TOPIC: Final = "foo"


class Location(NamedTuple):
    """The folder and the ports of a running server."""

    folder: Path
    port: int
    line_port: int


class Endpoint(NamedTuple):
    script: Callable[[int], WireScript]  # takes the size of a message in bytes
    line_port: bool = False


class Peer(NamedTuple):
    """`program` must be installed. `version` is the version, or a command that prints it."""

    program: str
    command: Callable[[Location], list[str]]
    endpoints: dict[str, Endpoint]
    version: str | list[str]


class RunningServer(NamedTuple):
    peer: Peer
    processes: ProcessTree
    location: Location

    def port(self, endpoint: str) -> int:
        return self.location.line_port if self.peer.endpoints[endpoint].line_port else self.location.port


_NCHAN: Final = """
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  keepalive_timeout 3600;
  nchan_shared_memory_size 512M;
  {upstream}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /sub {{
      nchan_subscriber eventsource; nchan_channel_id foo; nchan_subscriber_first_message newest; {redis_pass}
    }}
    location = /pub {{
      nchan_publisher; nchan_channel_id foo; nchan_message_buffer_length 1000; nchan_message_timeout 5m;
      {redis_pass}
    }}
  }}
}}
"""
_MOSQUITTO: Final = """
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
"""
NCHAN_MODULES: Final = [
    Path(folder, "ngx_nchan_module.so")
    for folder in ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/lib/nginx/modules")
]


def nchan_command(folder: Path, port: int, redis: int | None = None) -> list[str]:
    """nginx with nchan, which keeps its messages in the Redis on that port; None: in its own memory."""
    file = folder / "nginx.conf"
    upstream = f"upstream redis {{ nchan_redis_server redis://127.0.0.1:{redis}; }}" if redis else ""
    redis_pass = "nchan_redis_pass redis;" if redis else ""
    module = next(filter(Path.exists, NCHAN_MODULES))
    settings = _NCHAN.format(module=module, folder=folder, port=port, upstream=upstream, redis_pass=redis_pass)
    file.write_text(settings)
    return ["nginx", "-c", str(file), "-e", "stderr"]


def _mosquitto(location: Location) -> list[str]:
    file = location.folder / "mosquitto.conf"
    file.write_text(_MOSQUITTO.format(port=location.port))
    return ["mosquitto", "-c", str(file)]


def _redis(location: Location) -> list[str]:
    options = "--save '' --protected-mode no --maxclients 19000 --client-output-buffer-limit pubsub 1gb 1gb 0"
    return ["redis-server", "--bind", "127.0.0.1", "--port", str(location.port), *shlex.split(options)]


def _plainmq(location: Location) -> list[str]:
    program = shlex.split(os.environ.get("PLAINMQ_COMMAND", f"{sys.executable} -m app"))
    return [
        *program,
        "serve",
        "--port",
        str(location.port),
        "--tcp-port",
        str(location.line_port),
        "--max-topics",
        "20000",
    ]


def _module(name: str) -> Callable[[Location], list[str]]:
    return lambda location: [sys.executable, "-m", f"benchmarks.servers.{name}", str(location.port)]


def nchan(size: int) -> WireScript:
    return WireScript(
        post("/pub", "localhost", body(size)),
        answer=b"last message id:",
        join=get_stream("/sub", "localhost"),
        joined=b"\r\n\r\n",
    )


def by_hand(size: int) -> WireScript:
    return http(TOPIC, size)._replace(answer=b'"id":', joined=b"\r\n\r\n")


def bare(size: int) -> WireScript:
    return http(TOPIC, size)._replace(joined=b"\r\n\r\n")


def original(size: int) -> WireScript:
    """Subscribing is not answered. So the client also sends a message to itself, which arrives after that."""
    own = b"{'command':'subscribe', 'topic':'own<n>'}\n{'command':'send', 'topic':'own<n>', 'msg':'here'}\n"
    script = literal(TOPIC, size)
    subscribe = script.join.splitlines(keepends=True)[0]
    return script._replace(join=subscribe + own, joined=b"'here'")


def nats(size: int) -> WireScript:
    hello = b'CONNECT {"verbose":false}\r\n'
    return WireScript(
        b"PUB foo %d\r\n%b\r\n" % (size, body(size)),
        join=hello + b"SUB foo 1\r\nPING\r\n",
        joined=b"PONG\r\n",
        hello=hello,
    )


def redis(size: int) -> WireScript:
    words = (b"PUBLISH", b"foo", body(size))
    publish = b"*3\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return WireScript(publish, answer=b":", join=b"SUBSCRIBE foo\r\n", joined=b"subscribe")


def mqtt(size: int) -> WireScript:
    """MQTT 3.1.1, quality of service 0: publishes are not answered."""
    connect = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"
    content = b"\x00\x03foo" + body(size)
    return WireScript(
        b"\x30" + _length(len(content)) + content,
        join=connect + b"\x82\x08\x00\x01\x00\x03foo\x00",
        joined=b"\x90\x03\x00\x01",
        hello=connect,
    )


def _length(size: int) -> bytes:
    """A length as MQTT encodes it: seven bits a byte, least significant first; the top bit says that more follow."""
    nbytes = []
    while size > 127:
        nbytes.append(size & 127 | 128)
        size >>= 7
    return bytes([*nbytes, size])


PEERS: Final = {
    "plainmq": Peer(
        sys.executable,
        _plainmq,
        {
            "http": Endpoint(lambda size: http(TOPIC, size)),
            "batch": Endpoint(lambda size: http(TOPIC, size, batch=100)),
            "literal": Endpoint(lambda size: literal(TOPIC, size), line_port=True),
            "lines": Endpoint(lambda size: lines(TOPIC, size), line_port=True),
        },
        __version__,
    ),
    "nchan": Peer(
        "nginx",
        lambda location: nchan_command(location.folder, location.port),
        {"http": Endpoint(nchan)},
        ["nginx", "-v"],
    ),
    "nats": Peer(
        "nats-server",
        lambda location: ["nats-server", "-a", "127.0.0.1", "-p", str(location.port)],
        {"nats": Endpoint(nats)},
        ["nats-server", "--version"],
    ),
    "redis": Peer("redis-server", _redis, {"redis": Endpoint(redis)}, ["redis-server", "--version"]),
    "mosquitto": Peer("mosquitto", _mosquitto, {"mqtt": Endpoint(mqtt)}, ["mosquitto", "-h"]),
    "original": Peer(sys.executable, _module("original"), {"literal": Endpoint(original)}, sys.version.split()[0]),
    "by-hand": Peer(
        sys.executable,
        _module("by_hand"),
        {"http": Endpoint(by_hand)},
        f"sse-starlette {version('sse-starlette')}, starlette {version('starlette')}, uvicorn {version('uvicorn')}",
    ),
    "bare": Peer(
        sys.executable,
        _module("bare"),
        {"http": Endpoint(bare), "literal": Endpoint(lambda size: literal(TOPIC, size))},
        sys.version.split()[0],
    ),
}


def is_installed(name: str) -> bool:
    has_module = name != "nchan" or any(map(Path.exists, NCHAN_MODULES))
    return shutil.which(PEERS[name].program) is not None and has_module


def version_of(name: str) -> str:
    version_or_command = PEERS[name].version
    if isinstance(version_or_command, str):
        return version_or_command
    done = subprocess.run(version_or_command, capture_output=True, text=True, check=False)  # noqa: S603
    return (done.stdout + done.stderr).splitlines()[0].strip()


@contextmanager
def running_server(name: str, cpus: frozenset[int]) -> Iterator[RunningServer]:
    """Start a server on these CPUs, and wait until it listens."""
    peer = PEERS[name]
    with tempfile.TemporaryDirectory() as path:
        location = Location(Path(path), free_port(), free_port())
        location.folder.chmod(0o755)  # a server that root starts may switch to another user
        ports = {location.line_port if endpoint.line_port else location.port for endpoint in peer.endpoints.values()}
        with child(peer.command(location), ports, location.folder / "log", cpus) as pid:
            yield RunningServer(peer, ProcessTree(pid), location)
