"""plainmq: a message queue that needs no client library."""

__version__ = "0.1.0"
