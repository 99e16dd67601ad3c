"""The request that a client probably meant, when its path or method does not exist."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from starlette.routing import Route

from ..errors.suggestions import likeness

_MAX_PATH: Final = 200  # characters; a longer path gets no suggestion
_MIN_LIKENESS: Final = 0.7  # of 1.0: a path has several words, and each may be wrong
_MAX_PREFIX: Final = 3  # segments
_TOPIC: Final = "{topic:path}"
_SYNONYMS: Final = {
    "publish": "messages", "pub": "messages", "events": "stream", "subscribe": "stream", "sub": "stream",
    "consume": "pull", "prometheus": "metrics", "swagger": "docs", "version": "server", "info": "server",
    "health": "livez", "healthz": "livez", "healthy": "livez", "healthcheck": "livez", "health-check": "livez",
    "health_check": "livez", "_health": "livez", "live": "livez", "liveness": "livez", "alive": "livez",
    "ping": "livez", "up": "livez", "heartbeat": "livez",
    "ready": "readyz", "readiness": "readyz", "status": "readyz", "statusz": "readyz",
}  # fmt: skip


class _Fit(NamedTuple):
    likeness: float
    words: int  # segments of the route's path that are not parameters
    path: str  # the request's path with the words of the route


def nearest(method: str, path: str, routes: Iterable[Route]) -> str | None:
    """The most similar request: `POST /topics/foo/messages` for a POST to `/topics/foo/message`. `path`: as it was
    sent. None if the path is right, or similar to none."""
    if len(path) > _MAX_PATH:
        return None
    templates = [route.path.split("/")[1:] for route in routes if method in (route.methods or ())]
    segments = path.rstrip("/").split("/")[1:]
    fits = [fit for template in templates if (fit := _fit(template, segments))]
    exact = max((fit.words for fit in fits if fit.path == path), default=0)
    near = [fit for fit in fits if fit.path != path and fit.words > exact]
    if exact > 1:
        return None
    if not near and not exact:
        near = list(_with_one_more_word(templates, segments)) or _below_a_prefix(templates, segments)
    return f"{method} {max(near, key=lambda fit: fit[:2]).path}" if near else None


def _below_a_prefix(templates: Sequence[Sequence[str]], segments: Sequence[str]) -> list[_Fit]:
    """The path without segments that other servers have first: `/api/v1/topics/foo/stream`, `/actuator/health`."""
    rests = (segments[start:] for start in range(1, min(len(segments), _MAX_PREFIX + 1)))
    return next(filter(None, ([fit for template in templates if (fit := _fit(template, rest))] for rest in rests)), [])


def _with_one_more_word(templates: Iterable[Sequence[str]], segments: Sequence[str]) -> Iterator[_Fit]:
    for *template, word in templates:
        if not word.startswith("{") and word not in segments and (fit := _fit(template, segments)):
            yield fit._replace(path=f"{fit.path}/{word}")
            return


def _fit(template: Sequence[str], segments: Sequence[str]) -> _Fit | None:
    """How well the path fits the template, whose topic may have several segments. None if it does not fit."""
    if _TOPIC in template:
        at, count = template.index(_TOPIC), len(segments) - len(template) + 1
        if count < 1:
            return None
        segments = [*segments[:at], "/".join(segments[at : at + count]), *segments[at + count :]]
    if len(segments) != len(template) or not all(segments):
        return None
    words = [(want, got) for want, got in zip(template, segments, strict=True) if not want.startswith("{")]
    alike = [_likeness(want, got) for want, got in words]
    if not alike or min(alike) < _MIN_LIKENESS:
        return None
    meant = [got if want.startswith("{") else want for want, got in zip(template, segments, strict=True)]
    return _Fit(sum(alike) / len(alike), len(words), "/" + "/".join(meant))


@lru_cache(maxsize=4_096)
def _likeness(word: str, sent: str) -> float:
    sent = sent.lower()
    return 1.0 if word == _SYNONYMS.get(sent) else likeness(word, sent)
