"""The handlers, a file for each kind of resource: ordinary Starlette.

Each route and the right it takes stands in `web.app`.
They know nothing of the fast path.
"""
