"""How a line is read and answered: Python literals, JSON, or text for people.

`detect` tells which of them a line is in; each makes the same `commands` of it.
They know nothing of sockets or sessions.
"""
