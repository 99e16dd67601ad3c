"""The error of a store that an engine cannot serve."""

from ..errors import PlainmqError


class StoreUnusable(PlainmqError):
    """The store cannot be served. The text says what to do."""

    code = "store_unusable"
