"""ASGI middleware: access log, forwarded headers, origin check, security headers, offers of other protocols.

`web.app` has their order.
None knows a route.
"""
