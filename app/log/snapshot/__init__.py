"""Snapshots: the whole state of a log as bytes, from which another node goes on and decides the same.

May be asked: the chunks of a snapshot, the state machine that chunks stand for, and the digest of a state. Must not
know: engines, journals, clocks, files.

What decides anything is written, and in its order; indexes of it are built anew.
"""
