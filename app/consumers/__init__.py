"""Who works: the consumers of all groups, and how leases reach them.

Ask `ConsumerRegistry` for a pull (one request) or a push consumer (a stream). A `GroupDispatcher` hands one group out.
It decides nothing about a lease: `log.groups` does.
"""
