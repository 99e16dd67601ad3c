"""The HTTP API, run on plainmq's own protocol and as plain ASGI."""
