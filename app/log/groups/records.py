"""What is stored of a group: its settings, and its state without its jobs."""

import re

import msgspec

from ...errors import GroupInvalid
from ...messages.position import Gap

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~-]{0,127}")


def parse_group(name: str) -> str:
    """Return the name unchanged. Raises GroupInvalid."""
    if _NAME.fullmatch(name):
        return name
    raise GroupInvalid(
        f"{name[:60]!a} is not the name of a group: expected 1 to 128 letters, digits, '_', '-', '.', '~', "
        f"the first one a letter, a digit or '_'"
    )


class GroupSettings(msgspec.Struct, frozen=True):
    """`start`: where the group begins, as the client wrote it. `ack_timeout`: the default length of a lease, in
    seconds. `dead_letter`: a topic."""

    dead_letter: str
    start: str = "earliest"
    ack_timeout: float = 30.0
    max_deliveries: int = 10


class Replay(msgspec.Struct, frozen=True):
    """A group has gone back. Messages up to the seq `until` may have been handed out before, at most `attempts` times:
    their attempts go on from there, so that no lease has the id of an earlier one."""

    until: int
    attempts: int


class GroupRecord(msgspec.Struct, frozen=True):
    """The stored state of a group, without its jobs. The fields are those of Group."""

    settings: GroupSettings
    begin: int
    cursor: int
    acked: int
    dead: int
    gap: Gap | None = None
    passed: int | None = None
    closing: bool = False
    skipped: int = 0
    paused: bool = False
    attempts: int = 0
    replay: Replay | None = None
    gap_told: bool | None = None  # None in files of older versions
