"""Figures of a journal that several nodes share, as one of them sees it."""

import msgspec

from .histogram import Histogram


class OtherLimit(msgspec.Struct, frozen=True):
    """A limit of the log that is not in force as this node was started with. `setting`: its name."""

    setting: str
    own: float
    in_force: float


class JournalState(msgspec.Struct, frozen=True):
    """`node`: the name of this one for the others, in this run. `connected`: the journal can be reached. `entry`: the
    newest one that was carried out here. `nodes`: those that are alive. `appends`: from sending an entry until the
    journal has confirmed it. `lag_entries`: entries that this node knows of and has not carried out. `lag_seconds`:
    from sending an entry of this node until it was carried out here, for the newest one. `forks`: how often the journal
    had lost entries that were carried out here. `resyncs`: how often the state was read again. `healed_entries`: given
    back to a journal that had lost them. `digest_mismatches`: how often its state was not
    that of the others. `level`: of what commands mean.
    `other_limits`: those in force that are not as this node was started with."""

    node: str
    connected: bool
    entry: int
    nodes: list[str]
    appends: Histogram
    lag_entries: int
    lag_seconds: float
    forks: int
    resyncs: int
    healed_entries: int
    digest_mismatches: int
    level: int
    other_limits: list[OtherLimit]
