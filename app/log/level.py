"""The level of decisions: two servers decide the same if they use the same level.

| level | what is new |
|---|---|
| 1 | the first |

A new command, a new field of a command, and any change of what a command decides or answers take a new level: a row
here, LEVEL, and a golden journal (docs/architecture.md, "A new level").
"""

from typing import Final

LEVEL: Final = 1  # the newest that this version knows
