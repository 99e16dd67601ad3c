"""Clients that others wrote: browsers, curl, and SSE libraries of PyPI and npm."""
