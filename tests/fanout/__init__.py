"""Delivery to subscribers: wake-ups, and messages on their way to a socket."""
