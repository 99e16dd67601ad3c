"""Authentication and authorisation: tokens, JSON Web Tokens, tickets, and the rights that they grant.

Ask `Authenticator` for the grant of a token, and `grant.authorise` whether a grant allows something.
It knows nothing of HTTP, of the line port or of the log: both endpoints ask here.
"""
