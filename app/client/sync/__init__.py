"""The client for threads: the one for asyncio in other words, and in an event loop of its own."""
