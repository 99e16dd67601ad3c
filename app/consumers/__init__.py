"""The consumers of all groups, and how leases reach them.

Ask `ConsumerRegistry` for a pull (one request) or a push consumer (a stream). A `GroupDispatcher` hands
out the messages of one group. It decides nothing about a lease: `log.groups` does.
"""
