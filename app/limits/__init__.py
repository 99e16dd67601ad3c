"""Limits: rates and slots of a client, bytes buffered in both directions, stalled sockets, and draining in steps.

Each bound is a setting. `budget` adds up the memory that all of them allow.
It knows nothing of what it bounds.
"""
