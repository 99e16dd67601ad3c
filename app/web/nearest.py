"""The request that a client probably meant when it asked for a path or a method that is not there."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Final, NamedTuple

from starlette.routing import Route

_LONGEST: Final = 200  # characters of a path that is worth a guess, and is repeated in an error
_ALIKE: Final = 0.7  # of 1.0: `message` and `messages` are 0.93, `stream` and `streams` 0.92
_TOPIC: Final = "{topic:path}"
_OTHER_NAMES: Final = {
    "publish": "messages", "pub": "messages", "events": "stream", "subscribe": "stream", "sub": "stream",
    "health": "livez", "healthz": "livez", "consume": "pull",
}  # fmt: skip


class _Fit(NamedTuple):
    likeness: float
    words: int  # of the route's path that are no parameters
    path: str


def nearest(method: str, path: str, routes: Iterable[Route]) -> str | None:
    """Such as `POST /topics/foo/messages` for a POST to `/topics/foo/message`. `path`: as it was sent. None if the path
    is right, or like no other."""
    if len(path) > _LONGEST:
        return None
    templates = [route.path.split("/")[1:] for route in routes if method in (route.methods or ())]
    said = path.rstrip("/").split("/")[1:]
    fits = [fit for template in templates if (fit := _fit(template, said))]
    exact = max((fit.words for fit in fits if fit.path == path), default=0)
    near = [fit for fit in fits if fit.path != path and fit.words > exact]
    if exact > 1:
        return None
    if not near and not exact:
        near = list(_one_word_more(templates, said))
    return f"{method} {max(near, key=lambda fit: fit[:2]).path}" if near else None


def _one_word_more(templates: Iterable[Sequence[str]], said: Sequence[str]) -> Iterator[_Fit]:
    for *template, word in templates:
        if not word.startswith("{") and (fit := _fit(template, said)):
            yield fit._replace(path=f"{fit.path}/{word}")
            return


def _fit(template: Sequence[str], said: Sequence[str]) -> _Fit | None:
    """How the path fits the template, which takes what is left for the topic. None if it does not."""
    if _TOPIC in template:
        at, left = template.index(_TOPIC), len(said) - len(template) + 1
        if left < 1:
            return None
        said = [*said[:at], "/".join(said[at : at + left]), *said[at + left :]]
    if len(said) != len(template) or not all(said):
        return None
    words = [(want, got) for want, got in zip(template, said, strict=True) if not want.startswith("{")]
    alike = [_likeness(want, got) for want, got in words]
    if not alike or min(alike) < _ALIKE:
        return None
    meant = [got if want.startswith("{") else want for want, got in zip(template, said, strict=True)]
    return _Fit(sum(alike) / len(alike), len(words), "/" + "/".join(meant))


@lru_cache(maxsize=4_096)
def _likeness(word: str, said: str) -> float:
    said = said.lower()
    if len(said) > 2 * len(word):
        return 0.0
    return 1.0 if word in {said, _OTHER_NAMES.get(said)} else SequenceMatcher(None, word, said).ratio()
