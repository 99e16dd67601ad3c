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
settings, errors, client (the Python client and its commands), bench (load).
"""

__version__ = "0.1.0"
