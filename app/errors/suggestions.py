"""Suggestions: the word that a misspelt one probably stands for."""

from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher, get_close_matches
from typing import Final

IRREVERSIBLE: Final = frozenset({"purge", "skip", "seek", "release", "restore", "delete"})
"""Words of what cannot be taken back. They are suggested for no other word: whoever follows a suggestion without
reading it must not lose messages."""

MIN_LIKENESS: Final = 0.6  # of 1.0: `message` and `messages` have 0.93, `pbu` and `pub` 0.67
_MAX_WORD: Final = 60  # characters that are compared


def suggestion(word: str, known: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str | None:
    """The most similar known word, or the one that the synonyms have for it. None if there is none, or if it names what
    cannot be taken back."""
    meant = (synonyms or {}).get(word) or next(iter(get_close_matches(word[:_MAX_WORD], known, 1, MIN_LIKENESS)), None)
    return None if meant in IRREVERSIBLE else meant


def likeness(word: str, sent: str) -> float:
    """How similar the words are, from 0 to 1. A word that cannot be taken back is similar to nothing but itself."""
    if word == sent:
        return 1.0
    return 0.0 if word in IRREVERSIBLE or len(sent) > 2 * len(word) else SequenceMatcher(None, word, sent).ratio()
