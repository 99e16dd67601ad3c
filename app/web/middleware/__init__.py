"""ASGI middleware: access log, forwarded headers, origin check, security headers, Upgrade.

`web.app` has their order. None knows a route.
"""
