"""Storage engines: they decide when a change counts, at once in memory or once the disk has it.

`engine` is the interface, with the promises of every engine. `memory` and `sqlite` run the same state machine. It knows
nothing of subscribers, consumers or endpoints.
"""
