"""Consumer groups: which messages of a topic are ready, leased, delayed, acked or dead.

Ask `Groups` to claim and to settle leases. `UnackedIndex` knows what retention may not remove.
It does not know who the consumers are, or whether they are connected.
"""
