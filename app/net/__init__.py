"""Sockets, TLS certificates, and what SIGHUP reads again.

It knows nothing of protocols or messages.
"""
