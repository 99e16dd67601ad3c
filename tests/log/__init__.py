"""The log and its data structures, without a server."""
