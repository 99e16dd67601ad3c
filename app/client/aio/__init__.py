"""The client for asyncio. The folder `sync`, the client for threads, is made from this one by `python -m
tests.client.generate_sync`: look for how something works here, and in the modules above."""
