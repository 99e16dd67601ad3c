"""How much memory the settings allow in all, each bound with the setting behind it, and how much there is.

These are bounds, not what is used: an idle server takes little more than the program itself.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ..messages.units import ByteSize
from ..settings import Settings
from .quotas import PLACE

KIB: Final = 1 << 10
PROGRAM: Final = 64 << 20  # bytes: Python, the libraries, the code; 46 MiB on Linux
LONG_NAME: Final = 3 * KIB  # a topic of the greatest length, and what is remembered with it
REMEMBERED: Final = 20_000  # of those: keys (app/log/idempotency.py), and topics that are gone (app/log/trims.py)
CONNECTION: Final = 8 * KIB  # an idle one, with its task or its reader
UNTAKEN: Final = 64 * KIB  # what a transport holds before its reader is held, besides the write that was too much
GROWING: Final = 2  # times as much as has come of what is not whole: it is copied as it grows
CACHES: Final = 48 << 20  # of the engine sqlite: its pages, and messages that were read or written last
PARTS: Final = 4  # copies of a batch at once: as it came, its lines, its messages, their frames


class Item(msgspec.Struct, frozen=True):
    what: str
    nbytes: int
    settings: str
    """Those that lower it."""


def items(settings: Settings) -> list[Item]:
    """The bounds; together they are the most that the server takes."""
    memory = settings.engine == "memory"
    log = settings.max_total_bytes if memory else CACHES + settings.max_total_bytes  # sqlite: what is not on the disk
    reader = PLACE + UNTAKEN + 2 * settings.send_buffer  # the kernel takes twice what is asked for
    http = CONNECTION + GROWING * settings.max_head
    return [
        Item("the program", PROGRAM, ""),
        Item("the log", int(log), "--max-total-bytes"),
        Item("names and keys", (settings.max_topics + REMEMBERED) * LONG_NAME, "--max-topics"),
        Item("what is coming in", GROWING * settings.max_unfinished, "--max-unfinished"),
        Item("what readers have not taken", 2 * settings.max_unsent, "--max-unsent"),  # and answers, likewise
        Item("a batch that is stored", PARTS * settings.max_batch, "--max-batch"),
        Item("subscribers", settings.max_subscribers * reader, "--max-subscribers, --send-buffer"),
        Item("HTTP connections", settings.max_http_clients * http, "--max-http-clients"),
        Item("connections to the line port", settings.max_tcp_clients * (CONNECTION + UNTAKEN), "--max-tcp-clients"),
    ]


def lines(settings: Settings, available: int) -> Iterator[str]:
    """What is said at a start: the sum, and a warning when there is less."""
    bounds = items(settings)
    total = sum(item.nbytes for item in bounds)
    yield f"  memory     at most {_rounded(total)} with these limits; there are {_rounded(available)}"
    if total > available:
        largest = sorted(bounds, key=lambda item: -item.nbytes)[:3]
        named = "; ".join(f"{item.what} {_rounded(item.nbytes)} ({item.settings or 'fixed'})" for item in largest)
        yield f"  warning    the limits allow more memory than there is. The largest: {named}"


def _rounded(nbytes: int) -> str:
    """`4.2GiB`, `96MiB`"""
    return f"{nbytes / (1 << 30):.1f}GiB" if nbytes >= 1 << 30 else str(ByteSize(-(-nbytes >> 20) << 20))


def available(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may take: its cgroup's limit, or what the machine has. `root`: of the file
    system."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    """Those of the cgroups that this process is in, of version 2 and 1."""
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _limits_along(mounted, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits_along(mounted / "memory", path, "memory.limit_in_bytes")


def _limits_along(mounted: Path, path: str, name: str) -> Iterator[int]:
    """Of a group and of those it is in. In a container the path may be the host's: then only the root is there."""
    group = mounted / path.lstrip("/")
    for folder in [group, *group.parents]:
        if folder.is_relative_to(mounted) and (text := _text(folder / name).strip()).isdigit():
            yield int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
