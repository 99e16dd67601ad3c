"""The one interface of the core: what the HTTP endpoint and the line port ask of plainmq.

Ask `Broker` to publish, to subscribe and for work, and its parts for the rest: `log` answers queries, `changes` is what
a stopping server refuses, `retained` has messages, `directory` and `audience` know who is there. `batcher` joins the
publishes of one turn of the loop.
It knows no protocol and no engine: an engine is what `storage.engine` promises.
"""
