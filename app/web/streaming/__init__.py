"""What an event stream needs: its request, its response, its lifetime, and how a connection is taken over.

`EventStream` is an ASGI application: it works under any server, and hands over to a sink of ours where there is one.
It knows nothing of the fast path.
"""
