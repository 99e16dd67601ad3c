"""Processes of plainmq without its imports: `Popen` and `run` are those of subprocess, but the process is forked from
one that has imported plainmq already.

Starting Python and importing takes several times the CPU of all that a short command does, or a server until it
listens, and tests start some 2,000 processes. The teardown of all modules at the end takes as much: it writes to the
pages that a fork shares, and so copies them. A forked process leaves that out, and ends its threads, garbage and
streams as the interpreter does. It has its own pid, streams, folder and environment; its parent is this process, as the
fork server's fork is orphaned and this process adopts orphans. What is not `python -m app` or `python -m uvicorn` is
started as subprocess does, and so is what depends on the start of the interpreter: closed streams (start them by a
shell), variables that Python or the linker reads.
"""

import atexit
import ctypes
import gc
import json
import os
import resource
import runpy
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from io import TextIOWrapper
from pathlib import Path
from typing import Any, AnyStr, Final

_MODULES: Final = ("app", "uvicorn")
_PRELOADED: Final = (
    "anyio._backends._asyncio",
    "app.cli",
    "app.cli.tables",
    "app.client.aio.client",
    "app.client.columns",
    "app.client.commands",
    "app.client.health",
    "app.client.operations",
    "app.server.build",
    "app.server.info",
    "app.server.lifespan",
    "app.server.one_process",
    "app.server.run",
    "app.server.uvicorn_server",
    "app.web.app",
    "httpcore",
    "rich.table",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
)
_READ_AT_START: Final = ("LANG", "LC_", "LD_", "MALLOC", "OPENSSL", "PYTHON", "TZ")
_WRITES_NO_BYTECODE: Final = "PYTHONDONTWRITEBYTECODE"  # tests/conftest.py removes it
_ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if name != _WRITES_NO_BYTECODE}
"""Of the fork server. A test may change that of this process later."""

_PR_SET_CHILD_SUBREAPER: Final = 36
_LENGTH: Final = struct.Struct("!I")


class Popen(subprocess.Popen[AnyStr]):
    """A subprocess.Popen that forks where it can."""

    def _execute_child(
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any, env: Any,
        startupinfo: Any, creationflags: Any, shell: Any, *rest: Any,
    ) -> None:  # fmt: skip
        """Called by subprocess, with the ends of the pipes and other options in `rest`."""
        pipes, start_new_session = rest[:6], rest[11]
        child_ends = [end if end >= 0 else number for number, end in enumerate((pipes[0], pipes[3], pipes[5]))]
        if _is_plain(args, os.environ if env is None else env, preexec_fn, pass_fds, shell, executable):
            self.pid = _server().fork(
                child_ends, args=list(map(os.fsdecode, args[2:])), cwd=os.fsdecode(cwd or Path.cwd()),
                env=dict(os.environ if env is None else env), session=bool(start_new_session),
                files=resource.getrlimit(resource.RLIMIT_NOFILE),
            )  # fmt: skip
            self._child_created = True
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]
            return
        super()._execute_child(  # type: ignore[misc]
            args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell, *rest
        )


def run(
    command: Sequence[Any], *, input: Any = None, timeout: float, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """subprocess.run with captured output, and without a check of the exit status."""
    pipes = {"stdin": subprocess.DEVNULL if input is None else subprocess.PIPE, "stdout": subprocess.PIPE}
    with Popen[Any](command, stderr=subprocess.PIPE, **pipes | options) as process:
        try:
            stdout, stderr = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def _is_plain(args: Any, env: Mapping[str, str], preexec_fn: Any, pass_fds: Any, shell: Any, executable: Any) -> bool:
    """Whether a fork is the same as a start."""
    return (
        sys.platform == "linux"
        and not (preexec_fn or pass_fds or shell or executable)
        and not isinstance(args, str | bytes)
        and list(args[:2]) == [sys.executable, "-m"]
        and args[2] in _MODULES
        and _at_start(env) == _at_start(_ENVIRONMENT)
    )


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_READ_AT_START) and name != "PYTHONPATH"}


class _ForkServer:
    """The process that has imported plainmq. It ends with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        root = Path(__file__).resolve().parent.parent
        with theirs:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], cwd=root, env=_ENVIRONMENT, stdin=subprocess.DEVNULL
            )
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        atexit.register(self.close)

    def fork(self, streams: list[int], **request: Any) -> int:
        """The pid of a new child of this process."""
        data = json.dumps(request).encode()
        with self._lock:
            socket.send_fds(self._socket, [_LENGTH.pack(len(data))], streams)
            self._socket.sendall(data)
            (pid,) = _LENGTH.unpack(_read(self._socket, _LENGTH.size))
        assert isinstance(pid, int)
        return pid

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


@cache
def _server() -> _ForkServer:
    return _ForkServer()


def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (part := sock.recv(size - len(data))):
            raise EOFError
        data += part
    return data


# In the fork server


def _fork_server(number: int) -> dict[str, Any] | None:
    """Serve. Returns a request in a process that was forked for it, and None when the socket is closed."""
    with socket.socket(fileno=number) as sock:
        while True:
            head, streams, _, _ = socket.recv_fds(sock, _LENGTH.size, 3)
            if not head:
                return None
            request: dict[str, Any] = json.loads(_read(sock, *_LENGTH.unpack(head)))
            ours, theirs = os.pipe()
            if not (child := os.fork()):
                if orphan := os.fork():
                    os.write(theirs, _LENGTH.pack(orphan))
                    os._exit(0)
                os.close(ours)
                os.close(theirs)
                _take_streams(streams)
                return request
            os.waitpid(child, 0)
            sock.sendall(os.read(ours, _LENGTH.size))
            for descriptor in (ours, theirs, *streams):
                os.close(descriptor)


def _take_streams(streams: list[int]) -> None:
    """Make these descriptors the standard streams, with the encoding that Python gave ours."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        ours = getattr(sys, name)
        binary = os.fdopen(number, "rb" if number == 0 else "wb", closefd=False)
        stream = TextIOWrapper(
            binary, ours.encoding, ours.errors, newline=None if number == 0 else "\n",
            line_buffering=number == 2 or os.isatty(number),
        )  # fmt: skip
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _become(args: list[str], cwd: str, env: dict[str, str], session: bool, files: tuple[int, int]) -> None:
    """Run `python -m` with these arguments."""
    if session:
        os.setsid()
    resource.setrlimit(resource.RLIMIT_NOFILE, files)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[0] = cwd
    sys.argv = ["-m", *args[1:]]
    status: Any = 0
    try:
        runpy.run_module(args[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        status = end.code or 0
    _end(status)


def _end(status: int) -> None:
    """End as the interpreter does, without the teardown of all modules."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream and not stream.closed:
                stream.flush()
    except OSError:
        sys.exit(status)  # the interpreter says that it cannot write, and ends with another status
    os._exit(status)


if __name__ == "__main__":
    for module in _PRELOADED:
        __import__(module)
    gc.collect()
    gc.freeze()  # what is not traversed is not copied
    if request := _fork_server(int(sys.argv[1])):
        _become(**request)
