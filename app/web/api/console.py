"""The files of the console and of the API reference. GET / is the console for a browser, and a screen of text for
others.
"""

import gzip
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..authentication import asks_for_token
from ..query import read_options
from .welcome import welcome

_FOLDER: Final = Path(__file__).parents[1] / "console"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HTML: Final = "text/html"
# Scripts, styles and requests of this server only, and nothing inline.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_NO_MARKUP: Final = "; require-trusted-types-for 'script'"  # no text becomes markup; swagger-ui cannot do without


class Asset(msgspec.Struct, frozen=True):
    """A file of the console. `content` is compressed if the file is (`compressed`)."""

    content: bytes
    media_type: str
    etag: str
    compressed: bool


async def get_root(request: Request) -> Response:
    read_options(request, {})
    network = request.app.state.network
    if network.console and _HTML in request.headers.get("accept", ""):
        policy = _POLICY + _NO_MARKUP
        return _answer(request, "index.html", {"Vary": "Accept", "Content-Security-Policy": policy})
    url = network.public_url or f"{request.url.scheme}://{request.url.netloc}"
    text = welcome(url, network.line_port, asks_for_token(request), console=network.console)
    return PlainTextResponse(text, headers={"Vary": "Accept", "Cache-Control": "no-store"})


async def get_docs(request: Request) -> Response:
    """The API reference."""
    read_options(request, {})
    return _answer(request, "docs.html")


async def get_asset(request: Request) -> Response:
    read_options(request, {})
    return _answer(request, request.path_params["file"])


def _answer(request: Request, name: str, headers: dict[str, str] | None = None) -> Response:
    """The file; 304 without it if the client has it already. Raises HTTPException."""
    asset = _assets().get(name)
    if asset is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    fields = {"ETag": asset.etag, "Cache-Control": "no-cache", "Content-Security-Policy": _POLICY, **(headers or {})}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=fields)
    content = asset.content
    if asset.compressed:
        if "gzip" in request.headers.get("accept-encoding", ""):
            fields["Content-Encoding"] = "gzip"
        else:
            content = gzip.decompress(content)
    return Response(content, headers=fields, media_type=asset.media_type)


@cache
def _assets() -> dict[str, Asset]:
    """All files of the folder that a browser may ask for, by name. No other path can be reached."""
    files = (path for path in _FOLDER.rglob("*") if path.with_suffix("").suffix in _TYPES or path.suffix in _TYPES)
    return dict(map(_asset, files))


def _asset(path: Path) -> tuple[str, Asset]:
    content, name = path.read_bytes(), path.relative_to(_FOLDER).as_posix()
    served = name.removesuffix(".gz")
    media_type = _TYPES[Path(served).suffix]
    return served, Asset(content, media_type, f'"{sha256(content).hexdigest()[:16]}"', name != served)
