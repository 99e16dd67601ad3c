"""The target of a request in absolute form, as clients send it to a proxy: `GET http://localhost/topics HTTP/1.1`.
RFC 9112, section 3.2.2: a server accepts it, and its host replaces `Host`."""

import re
from collections.abc import Sequence
from typing import Final

from ...errors import NotHttp
from ..middleware.origin import is_host

_ABSOLUTE: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)")
_HOST: Final = b"host"

Headers = Sequence[tuple[bytes, bytes]]


def origin_form(target: bytes, headers: Headers, *, old: bool) -> tuple[bytes, Headers]:
    """The path and query of the target, and the headers with the host that it names. `old`: HTTP/1.0, which needs no
    Host. Several Hosts, or one that is invalid, stay and are refused later (section 3.2). Raises NotHttp."""
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return target, headers
    scheme, host, path = absolute.groups()
    if scheme.lower() not in {b"http", b"https"}:
        raise NotHttp("the target of a request is a path, or a URL that begins with http:// or https://")
    hosts = [value for name, value in headers if name == _HOST]
    if (old and not hosts) or (len(hosts) == 1 and is_host(hosts[0].decode("latin-1"))):
        headers = [*(header for header in headers if header[0] != _HOST), (_HOST, host)]
    return path if path.startswith(b"/") else b"/" + path, headers
