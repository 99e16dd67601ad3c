"""The memory budget: the most memory that the settings allow, bound by bound, and the memory that is available.

These are upper bounds. An idle server uses little more than the program itself.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ..messages.units import ByteSize
from ..settings import Settings
from .quotas import SLOT_MEMORY

KIB: Final = 1 << 10
PROGRAM: Final = 64 << 20  # bytes: Python, the libraries, the code; 46 MiB on Linux
LONG_NAME: Final = 3 * KIB  # bytes: a topic of the greatest length, with what is stored per topic
REMEMBERED: Final = 20_000  # idempotency keys (app/log/idempotency.py) and deleted topics (app/log/trims.py)
CONNECTION: Final = 8 * KIB  # bytes: an idle connection, with its task or its subscriber
WRITE_BUFFER: Final = 64 * KIB  # bytes a transport buffers before writing to it is paused, besides the last write
GROWING: Final = 2  # copies of an unfinished request: its buffer is copied as it grows
CACHES: Final = 48 << 20  # bytes, of the engine sqlite: its page cache, and the messages read or written last
TOKEN_FILE: Final = 68 << 20  # bytes: a file of 4 MiB (app/access/tokens.py) in the objects of short patterns
KNOWN_TOKENS: Final = 20 << 20  # bytes: grants by token and by header (app/access/grant_cache.py), and what they cover
ATTEMPTS: Final = 14 << 20  # bytes: spent tickets (app/access/spent_tickets.py); log-ins and publishes by client
SIGNED: Final = 24 * KIB  # bytes: the patterns of a signed token, which its stream or connection keeps
RECENT_ENTRIES: Final = 64 << 20  # of a journal, in app/storage/replicated/recent.py
PARTS: Final = 4  # copies of a batch at once: the body, its lines, its messages, their encodings


class Item(msgspec.Struct, frozen=True):
    what: str
    nbytes: int
    settings: str
    """The settings that lower the bound; empty if none does."""


def items(settings: Settings) -> list[Item]:
    """The bounds. Their sum is the most memory that a process of the server uses."""
    beside = {"memory": 0, "sqlite": CACHES}.get(settings.engine.partition(":")[0], RECENT_ENTRIES)
    log = beside + settings.max_total_bytes  # sqlite: what is not on disk
    grant = SIGNED if settings.jwt_keys else 0
    subscriber = SLOT_MEMORY + WRITE_BUFFER + 2 * settings.send_buffer + grant  # the kernel doubles SO_SNDBUF
    line = CONNECTION + WRITE_BUFFER + grant
    http = CONNECTION + GROWING * settings.max_head
    return [
        Item("the program", PROGRAM, ""),
        Item("the log", int(log), "--max-total-bytes"),
        Item("names and keys", (settings.max_topics + REMEMBERED) * LONG_NAME, "--max-topics"),
        Item("tokens and log-ins", TOKEN_FILE + KNOWN_TOKENS + ATTEMPTS, ""),
        Item("unfinished input", GROWING * settings.max_unfinished, "--max-unfinished"),
        Item("unread output", 2 * settings.max_unsent, "--max-unsent"),  # of subscribers, and again of responses
        Item("a batch being stored", PARTS * settings.max_batch, "--max-batch"),
        Item("subscribers", settings.max_subscribers * subscriber, "--max-subscribers, --send-buffer"),
        Item("HTTP connections", settings.max_http_clients * http, "--max-http-clients"),
        Item("connections to the line port", settings.max_tcp_clients * line, "--max-tcp-clients"),
    ]


def lines(settings: Settings, available: int) -> Iterator[str]:
    """Lines of the start-up banner: the sum over all workers, and a warning if less memory is available."""
    bounds = items(settings)
    supervisor = PROGRAM if settings.workers > 1 else 0
    total = sum(item.nbytes for item in bounds) * settings.workers + supervisor
    of_each = f", for {settings.workers} workers" if settings.workers > 1 else ""
    yield f"  memory     at most {_rounded(total)} with these limits{of_each}; there are {_rounded(available)}"
    if total > available:
        largest = sorted(bounds, key=lambda item: -item.nbytes)[:3]
        named = "; ".join(f"{item.what} {_rounded(item.nbytes)} ({item.settings or 'fixed'})" for item in largest)
        yield f"  warning    the limits allow more memory than there is. The largest: {named}"


def _rounded(nbytes: int) -> str:
    """`4.2GiB`, `96MiB`"""
    return f"{nbytes / (1 << 30):.1f}GiB" if nbytes >= 1 << 30 else str(ByteSize(-(-nbytes >> 20) << 20))


def available(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may use: the lowest limit of its cgroups, or the memory of the machine. `root`
    is the root of the file system."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(root)])


def resident(root: Path = Path("/")) -> int:
    """Bytes of memory that this process uses; 0 if that is not known."""
    pages = _text(root / "proc/self/statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def _limits(root: Path) -> Iterator[int]:
    """The limits of the cgroups that this process is in, of version 2 and 1."""
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _limits_along(mounted, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits_along(mounted / "memory", path, "memory.limit_in_bytes")


def _limits_along(mounted: Path, path: str, name: str) -> Iterator[int]:
    """The limits of a cgroup and its parents. In a container the path may be the host's; then only the root exists."""
    group = mounted / path.lstrip("/")
    for folder in [group, *group.parents]:
        if folder.is_relative_to(mounted) and (text := _text(folder / name).strip()).isdigit():
            yield int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
