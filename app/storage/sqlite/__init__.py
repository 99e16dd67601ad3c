"""The SQLite engine: the log is in a file.

Read `engine` for what happens in the event loop, `writer` for the thread that decides and commits, `transactions` for
one commit, and `schema` for the tables. Only `backup` is used from outside the engine."""
