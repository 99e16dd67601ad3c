"""Commands: every change of the log as a record, which an engine can carry out now, store, or send to other nodes.

May be asked: what a command changes, its bytes, and the command that bytes stand for. Must not know: engines, clocks,
files, connections.
"""
