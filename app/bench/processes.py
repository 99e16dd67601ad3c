"""What processes of this machine have used, as Linux tells it in /proc (proc(5))."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_LISTENING = "0A"
_GONE = (OSError, IndexError, ValueError)  # a process that ends while it is looked at


class Family:
    """A process and its descendants; those that begin later are found when it is asked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def cpu_seconds(self) -> float:
        """CPU time of all threads that run: to the nanosecond where the kernel keeps that, else in its ticks."""
        return sum(map(_cpu_seconds, self.pids()))

    def resident(self) -> int:
        """Bytes of memory held."""
        return sum(map(_resident, self.pids()))

    def pids(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for pid in _pids():
            with suppress(*_GONE):
                children.setdefault(int(_stat(pid)[1]), []).append(pid)
        found = [self.pid]
        for pid in found:
            found += children.get(pid, [])
        return found


def listening_on(port: int) -> int | None:
    """The process that listens on that TCP port, if there is one and we may know; the eldest of a family."""
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
    """The fields behind the name, which may hold anything: state, parent, ..."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _cpu_seconds(pid: int) -> float:
    with suppress(*_GONE):
        tasks = (_PROC / str(pid) / "task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    with suppress(*_GONE):
        fields = _stat(pid)
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _resident(pid: int) -> int:
    with suppress(*_GONE):
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
