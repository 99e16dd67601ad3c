"""What has come in and is not whole yet, bodies and lines, of all clients together, so that it has an end."""

from ..errors import Overloaded


class Inflow:
    def __init__(self, most: int) -> None:
        """`most`: bytes."""
        self.held = 0
        self._most = most

    def grow(self, before: int, now: int) -> None:
        """A body or a line that had so many bytes has so many now. Raises Overloaded, and then it is as before."""
        more = now - before
        if more > 0 and self.held + more > self._most:
            raise Overloaded(
                f"clients have sent {self.held} bytes of what is not whole yet: try again in a few seconds"
            )
        self.held += more
