"""The answers of a server, as types: each module has those of one subject.

They follow the wire format and share no code with the server, so they also fit an older or newer one. Times are RFC
3339: `datetime.fromisoformat` reads them.
"""
