"""The journal in Redis (7.0 or later, or Valkey): a stream of entries, which scripts append to.

`address` is what the URL says, `primary` finds the server and connects, `connection` speaks its protocol, `server`
knows what is required of it, `scripts` run in it. `journal` puts them together."""
