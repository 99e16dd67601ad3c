"""ASGI middleware: access log, forwarded headers, origin check, security headers, Upgrade.

`web.app` has their order; `Upgrades` is for other servers than plainmq's own (`main`). None knows a route.
"""
