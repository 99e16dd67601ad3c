"""GET / for curl: what this is, and commands to try, with the address by which the client reached the server."""

from shlex import quote
from typing import Final

from starlette.datastructures import URL

from ... import __version__

_HEADER: Final = '-H "Authorization: Bearer $PLAINMQ_TOKEN" '


def welcome(url: str, line_port: int, needs_token: bool, *, console: bool) -> str:
    """`url`: the server's address, without a slash at its end. `line_port`: 0 if it is off. `console`: whether browsers
    find the console there."""
    curl = f"curl {_HEADER if needs_token else ''}"
    host = URL(url).hostname or "localhost"
    commands = {
        "publish": f"{curl}-d hello {url}/topics/foo/messages",
        "subscribe": f"{curl}-N {url}/topics/foo/stream",
        "read": f"{curl}{quote(f'{url}/topics/foo/messages?since=last:10')}",
        "work": f"{curl}-X POST {quote(f'{url}/topics/foo/groups/workers/pull?wait=20s')}",
        "or telnet": f"telnet {host} {line_port}    (type help)" if line_port else "the line port is off",
    }
    return "\n".join(
        [
            f"plainmq {__version__}: a message queue that needs no client library.",
            "",
            *(f"  {name:<10} {command}" for name, command in commands.items()),
            "",
            f"  {'In a browser this address is the console. ' if console else ''}API reference: {url}/docs",
            "",
        ]
    )
