"""CPU time and memory of processes of this machine, read from Linux's /proc (proc(5))."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_LISTENING = "0A"
_GONE = (OSError, IndexError, ValueError)  # raised when a process ends while its files are read


class ProcessTree:
    """Processes and their descendants, including those that start later."""

    def __init__(self, *pids: int) -> None:
        self._roots = pids

    def cpu_seconds(self) -> float:
        """CPU time of all threads that still run, to the nanosecond if the kernel counts them, else in clock ticks."""
        return sum(map(_cpu_seconds, self.pids()))

    def resident_bytes(self) -> int:
        return sum(map(_resident_bytes, self.pids()))

    def pids(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for pid in _pids():
            with suppress(*_GONE):
                children.setdefault(int(_stat(pid)[1]), []).append(pid)
        found = [*self._roots]
        for pid in found:
            found += children.get(pid, [])
        return found


def listener_of(port: int) -> int | None:
    """The lowest pid of the processes that listen on a TCP port; None if there is none, or none that we may inspect."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    return min((pid for pid in _pids() if sockets & set(_files(pid))), default=None) if sockets else None


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("net/tcp", "net/tcp6"):
        with suppress(OSError):
            for line in (_PROC / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    yield fields[9]


def _files(pid: int) -> Iterator[str]:
    with suppress(OSError):
        for link in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                yield str(link.readlink())


def _pids() -> Iterator[int]:
    with suppress(OSError):
        for entry in _PROC.iterdir():
            if entry.name.isdigit():
                yield int(entry.name)


def _stat(pid: int) -> list[str]:
    """The fields after the command name, which may contain spaces and parentheses: state, parent, ..."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _cpu_seconds(pid: int) -> float:
    with suppress(*_GONE):
        tasks = (_PROC / str(pid) / "task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    with suppress(*_GONE):
        fields = _stat(pid)
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _resident_bytes(pid: int) -> int:
    with suppress(*_GONE):
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
