"""Below ASGI: a subclass of uvicorn's protocol that answers plain publishes (no options) and streams
without building a request.

`protocol` reads, `requests` recognises a head by its bytes, `replies` writes the answer, `limits` bounds what comes in.
Nothing but the server knows it; each request it answers gets the same answer from plain ASGI, and tests compare them.
"""
