"""The replicated engine: many nodes share one journal of commands, and each folds it into a state machine of its own.

`journal` is what a shared log must offer. `fold` carries out its entries, the same on each node. `engine` appends what
the clients of this node ask, and answers them. Nothing here knows which journal it is."""
