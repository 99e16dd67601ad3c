"""When a decision counts: at once in memory, or when the disk has it.

`engine` is the seam: what any engine promises. `memory` and `sqlite` keep the promise with the same state machine.
It knows nothing of subscribers, consumers or endpoints.
"""
