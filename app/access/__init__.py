"""Who a client is, and what it may do: tokens, JSON Web Tokens, tickets, and the rights they grant.

Ask `Authenticator` whose a token is, and `grant.authorise` whether it allows something.
It knows nothing of HTTP, of the line port or of the log: both endpoints ask here.
"""
