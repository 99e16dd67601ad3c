"""The line port: one TCP port, three dialects.

`listener` accepts connections, `connection` reads lines and writes replies, `session` carries out commands, and
`subscriptions` holds what a client listens to. `encoders` turns messages into lines.
It knows the broker, and nothing of HTTP.
"""
