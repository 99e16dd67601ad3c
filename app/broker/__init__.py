"""The one interface of the core: what the HTTP endpoint and the line port ask of plainmq.

Ask `Broker` to publish, to subscribe, to read, and for work. `batcher` joins the publishes of one turn of the loop.
It knows no protocol and no engine: an engine is what `storage.engine` promises.
"""
