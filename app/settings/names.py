"""The names of a setting: its flag, its variable, and both in an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ..errors import PlainmqError

PREFIX: Final = "PLAINMQ_"


class SettingInvalid(PlainmqError):
    code = "setting_invalid"


def variable(name: str) -> str:
    """`tcp_port` → `PLAINMQ_TCP_PORT`."""
    return PREFIX + name.upper()


def flag(name: str) -> str:
    """`tcp_port` → `--tcp-port`."""
    return "--" + name.replace("_", "-")


def named(name: str) -> str:
    """`tcp_port` → `--tcp-port (PLAINMQ_TCP_PORT)`."""
    return f"{flag(name)} ({variable(name)})"


@contextmanager
def naming(*names: str) -> Iterator[None]:
    """Puts the names of these settings before the sentence of any other PlainmqError that is raised inside."""
    try:
        yield
    except SettingInvalid:
        raise
    except PlainmqError as error:
        raise type(error)(f"{' with '.join(map(named, names))}: {error}") from None
