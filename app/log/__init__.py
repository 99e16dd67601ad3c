"""What is decided: the one log of all topics, its retention, groups and leases, as plain functions of the time.

Ask `LogStateMachine` (state) what a command does. What follows from it, such as deliveries, is in its `Outbox`.
It does no I/O, reads no clock, and knows neither engines nor endpoints.
"""
