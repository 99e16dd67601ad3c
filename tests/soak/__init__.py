"""A long run under mixed load, and a check for leaks and for lost messages."""
