"""The values that everything else speaks of: messages, topics, positions, leases, durations and sizes.

Each is parsed once, where it comes in, into a type that cannot be wrong.
They know nothing of the program that uses them.
"""
