"""The HTTP endpoint.

`api` has the handlers and `middleware` the middleware, both ordinary Starlette; `app` puts them together. `streaming`
is what an event stream needs, and `fastpath` what reaches below ASGI: the app works without it.
It decides nothing about messages, groups or rights: it asks `broker` and `access`.
"""
