"""`from plainmq import Client, AsyncClient`: the Python client against real servers."""
