"""The line port: one TCP port, three dialects.

`listener` accepts, `connection` reads and writes, `session` does what lines say. `encoders` makes lines of messages.
It knows the broker, and nothing of HTTP.
"""
