"""plainmq: a message queue that needs no client library.

The folders, from the top down; docs/architecture.md shows how they hang together:

    cli, server          start it
    web, tcp             the two endpoints: HTTP, and the line port
    broker               the face of the core
    consumers, fanout    share work out, and deliver to subscribers
    storage              keeps the log: in memory, or in a file
    log                  decides
    messages             what all of them speak of

Beside them: access (who may do what), limits (bounds), telemetry (logs and numbers), net (sockets, certificates),
settings, errors, client (the Python client and its commands).

For programs: `from plainmq import Client, AsyncClient`, see docs/python.md.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"  # also in pyproject.toml and openapi/openapi.yaml, as tests check

if TYPE_CHECKING:
    from .client import *  # noqa: F403
else:

    def __getattr__(name: str) -> object:
        """The client, when somebody asks for it: the server does not need it. Its names are capitalised, so that a
        module is looked for without it."""
        if name[:1].isupper():
            from . import client  # noqa: PLC0415

            if name in client.__all__:
                return getattr(client, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        from . import client  # noqa: PLC0415

        return [*globals(), *client.__all__]
