"""Bounds: rates and slots of a client, bytes on their way in and out, stalled sockets, and a stop in steps.

Each bound is a setting. `budget` adds up the memory that all of them allow.
It knows nothing of what it bounds.
"""
