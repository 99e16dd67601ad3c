"""Who a request is from, as quotas know it."""

from starlette.requests import Request

from ..quotas import client_of


def client(request: Request) -> str | None:
    return client_of(None, request.client.host if request.client else None)
