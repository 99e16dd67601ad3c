"""The dialects of the line port: Python literals, JSON, and text for people.

`detect` finds the dialect of a line; each dialect parses its lines into the same `commands`, and writes the replies.
They know nothing of sockets or sessions.
"""
