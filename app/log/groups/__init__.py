"""Consumer groups: which messages of a topic are ready, leased, delayed, acked or dead.

`Groups` claims and settles leases, `GroupAdmin` creates and drops groups, `DeadLetters` moves messages that are out of
attempts. `UnackedIndex` knows which messages retention may not remove.
The groups do not know who the consumers are, or whether they are connected.
"""
