"""Event streams: the parsed request, the response, its lifetime, and how a connection is taken over.

`EventStream` is an ASGI response: it works under any server. Under plainmq's own protocol it hands the connection over
to a sink. It knows nothing of the fast path.
"""
