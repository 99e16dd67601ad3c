"""Who listens at the other servers of the same log."""

from collections.abc import Set


class Elsewhere:
    """Nobody: the log has one server."""

    def subscribers(self, topic: str) -> int:  # noqa: ARG002
        return 0

    def consumers(self, topic: str, group: str) -> int:  # noqa: ARG002
        return 0

    @property
    def served(self) -> Set[tuple[str, str]]:
        """The groups that have consumers there, by topic and name."""
        return frozenset()
