"""The journal in JetStream (nats-server 2.11 or later): a stream of entries, and one of snapshots.

`address` is what the URL says, `connection` connects and asks, `api` has the requests to JetStream and their answers,
`streams` knows what the two streams must be like, `snapshots` are kept in the second. `journal` puts them together."""
