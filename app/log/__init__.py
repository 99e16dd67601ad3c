"""The log's decisions: one ordered log of all topics, its retention, groups and leases, as pure functions of time.

`LogStateMachine` (state) executes a command. Its `Outbox` has the effects to carry out, such as deliveries.
The log does no I/O, reads no clock, and knows neither engines nor endpoints.
"""
