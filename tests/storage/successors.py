"""Servers that follow each other on one file."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.harness import ServerProcess, start_server

Next = Callable[[], ServerProcess]


@contextmanager
def successors(folder: Path, end: Callable[[ServerProcess], None]) -> Iterator[Next]:
    """Each call ends the server and starts the next one on its file."""
    with ExitStack() as stack:
        servers: list[ServerProcess] = []

        def start() -> ServerProcess:
            for server in servers[-1:]:
                end(server)
            flags = ["--engine", f"sqlite:{folder}/log.db", "--min-free-disk", "0"]
            servers.append(stack.enter_context(start_server(*flags)))
            return servers[-1]

        yield start
