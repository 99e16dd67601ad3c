"""The values that the whole program shares: messages, topics, positions, leases, durations and sizes.

Each value is parsed once, where it enters the program, into a type that is valid by construction.
These modules know nothing of the rest of the program.
"""
