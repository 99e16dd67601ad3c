"""The memory that groups take."""

from typing import Final

import msgspec

GROUP_COST: Final = 1_664  # bytes of memory that a group takes, at most; a test measures it
SHORT_TOPIC: Final = 256  # characters of the dead-letter topic's name that GROUP_COST includes
RECENT_DEAD_COST: Final = 128  # likewise a remembered dead message


class Size(msgspec.Struct, frozen=True, gc=False):
    """The size of groups: how many, their jobs, and the bytes of memory that they take besides GROUP_COST and
    JOB_COST."""

    groups: int
    jobs: int
    nbytes: int

    def changed(self, before: "Size", now: "Size") -> "Size":
        """The total after one of the groups changed its size."""
        return Size(
            self.groups + now.groups - before.groups,
            self.jobs + now.jobs - before.jobs,
            self.nbytes + now.nbytes - before.nbytes,
        )


EMPTY_SIZE: Final = Size(0, 0, 0)
