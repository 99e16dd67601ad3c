"""The engine that keeps its log in a file.

Read `engine` for the thread that decides and commits, `transactions` for one commit, and `schema` for the tables.
Only `backup` is used by anybody but the engine.
"""
