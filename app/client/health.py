"""`plainmq status` and `plainmq check`: does a server need attention, and can it be used?"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from .aio.client import AsyncClient
from .answers.access import Session
from .answers.server import Sample, Stats
from .attention import Attention, attention
from .commands import Exit
from .errors import Unauthorised, Unavailable
from .operations import Outcome
from .table import Column, Kind, Table, table

SHOWN: Final = 10  # matters that need attention: the figures need some space too

_SERVER: Final[Sequence[Column[Stats]]] = (
    Column("version", Kind.TEXT, lambda stats: stats.server.version),
    Column("durability", Kind.TEXT, lambda stats: stats.server.durability),
    Column("started", Kind.TIME, lambda stats: stats.server.started),
)

_SAMPLE: Final[Sequence[Column[Sample]]] = (
    Column("published", Kind.RATE, lambda now: now.published),
    Column("delivered", Kind.RATE, lambda now: now.delivered),
    Column("acked", Kind.RATE, lambda now: now.acked),
    Column("refused", Kind.RATE, lambda now: now.refused),
    Column("subscribers", Kind.COUNT, lambda now: now.subscribers),
    Column("consumers", Kind.COUNT, lambda now: now.consumers),
    Column("topics", Kind.COUNT, lambda now: now.topics),
    Column("messages", Kind.COUNT, lambda now: now.messages),
    Column("groups", Kind.COUNT, lambda now: now.groups),
    Column("ready", Kind.COUNT, lambda now: now.ready),
    Column("leased", Kind.COUNT, lambda now: now.leased),
    Column("delayed", Kind.COUNT, lambda now: now.delayed),
    Column("dead", Kind.COUNT, lambda now: now.dead),
    Column("memory", Kind.PART, lambda now: now.memory / max(now.memory_limit, 1)),
    Column("loop delay", Kind.SECONDS, lambda now: now.loop_delay),
)

# May these rights be exercised on this topic or pattern? The command line knows how patterns cover each other.
Allows = Callable[[Sequence[str], str], bool]


class Status(msgspec.Struct, frozen=True):
    """What `plainmq status --json` prints."""

    attention: list[Attention]
    stats: Stats


class Check(msgspec.Struct, frozen=True):
    """What `plainmq check --json` prints. `reason`: why the server is not ready. `session`: None if the server did not
    tell. `missing`: rights that were asked for, as right and pattern."""

    url: str
    ready: bool
    reason: str | None
    session: Session | None
    missing: list[tuple[str, str]]


async def status(client: AsyncClient) -> Outcome:
    stats = await client.stats()
    found = attention(stats.attention)
    exit = Exit.ATTENTION if found else Exit.DONE
    shown = Status(found, msgspec.structs.replace(stats, attention=[]))
    return Outcome([shown], _status_table(stats, found), exit=exit)


def _status_table(stats: Stats, found: Sequence[Attention]) -> Table:
    """What needs attention stands first."""
    texts = [item.text for item in found[:SHOWN]]
    texts += [f"and {more} more: plainmq status --json"] if (more := stats.attention_total - len(texts)) else []
    kind = Kind.WARNING if found else Kind.TEXT
    texts = texts or ["nothing"]
    parts = [table(_SERVER, [stats], upright=True)]
    parts += [] if stats.now is None else [table(_SAMPLE, [stats.now], upright=True)]
    return Table(
        ["attention"] * len(texts) + [heading for part in parts for heading in part.headings],
        [kind] * len(texts) + [kind for part in parts for kind in part.kinds],
        [texts + [value for part in parts for value in part.rows[0]]],
        upright=True,
    )


async def check(client: AsyncClient, wanted: Mapping[str, Sequence[str]], has_token: bool, allows: Allows) -> Outcome:
    """`wanted`: for each right, the topics and patterns on which the token shall have it."""
    reason = None
    try:
        await client.check_ready()
    except Unavailable as error:
        reason = str(error)
    session = await _session(client, required=has_token or any(wanted.values()))
    rights = {} if session is None else session.rights
    missing = [
        (right, pattern)
        for right, patterns in wanted.items()
        for pattern in patterns
        if not allows(rights.get(right, ()), pattern)
    ]
    found = Check(client.url, reason is None, reason, session, missing)
    notes = [f"{client.url} is not ready: {reason}"] if reason else []
    notes += [f"the token has no right to {right} on {pattern}" for right, pattern in missing]
    exit = Exit.REFUSED if notes else Exit.DONE
    return Outcome([found], _check_table(found), "; ".join(notes) or None, exit)


async def _session(client: AsyncClient, required: bool) -> Session | None:
    """Without a token, a server need not say what one may do."""
    try:
        return await client.session()
    except Unauthorised:
        if required:
            raise
        return None


def _check_table(check: Check) -> Table:
    values: list[tuple[str, Kind, Any]] = [("server", Kind.TEXT, check.url), ("ready", Kind.TEXT, check.ready)]
    if check.session is not None:
        values += [("token", Kind.TEXT, check.session.name), ("expires", Kind.TIME, check.session.expires)]
        values += [(right, Kind.TEXT, " ".join(names) or None) for right, names in check.session.rights.items()]
    headings, kinds, row = zip(*values, strict=True)
    return Table(headings, kinds, [row], upright=True)
