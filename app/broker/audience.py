"""The audience: who listens to which topics, and who works in which groups, at this server."""

from asyncio import sleep
from collections.abc import Iterable
from typing import Final

import msgspec

from ..consumers.registry import ConsumerRegistry
from ..fanout.fanout import Fanout
from ..fanout.presence import Presence
from ..log.slices import sliced
from ..messages.topic import covers, is_pattern

SEARCH_EFFORT: Final = 16  # as many items of a slice as a cohort or a group counts: it may have 64 names to compare


class Attendee(msgspec.Struct, frozen=True):
    """A subscriber or a consumer. `names`: the topics and patterns that were asked about. `live`: a subscriber has all
    messages up to `seq`, the head of the log; otherwise it is reading there, or has not begun (None). Of a consumer:
    its group, and how many messages it has leased."""

    presence: Presence
    kind: str
    names: list[str]
    live: bool = True
    seq: int | None = None
    group: str | None = None
    leased: int | None = None


class AudiencePage(msgspec.Struct, frozen=True):
    """In the order of arrival. `next`: the number after which the next page begins; None if this is the last one."""

    attendees: list[Attendee]
    next: int | None


class Audience:
    def __init__(self, fanout: Fanout, consumers: ConsumerRegistry) -> None:
        self._fanout = fanout
        self._consumers = consumers

    async def page(self, match: str, after: int, limit: int) -> AudiencePage:
        """Who gets messages of the topic `match`, or listens to topics and patterns that the pattern `match` covers."""
        found = [one for one in await self._all(match) if one.presence.number > after]
        found.sort(key=lambda one: one.presence.number)
        return AudiencePage(found[:limit], found[limit - 1].presence.number if len(found) > limit else None)

    async def _all(self, match: str) -> list[Attendee]:
        found: list[Attendee] = []
        head = self._fanout.head
        for cohorts in sliced(self._fanout.cohorts, SEARCH_EFFORT):
            for cohort in cohorts:
                if names := _asked(match, (*cohort.topic_filter.topics, *cohort.topic_filter.patterns)):
                    kind = cohort.encoder.kind
                    found += [Attendee(one.presence, kind, names, True, head) for one in cohort.live]
                    found += [Attendee(one.presence, kind, names, False, one.position) for one in cohort.catching_up]
            await sleep(0)
        for dispatchers in sliced(self._consumers.dispatchers, SEARCH_EFFORT):
            for dispatcher in dispatchers:
                if names := _asked(match, (dispatcher.topic,)):
                    group, consumers = dispatcher.group, dispatcher.consumers
                    found += [
                        Attendee(one.presence, "worker", names, group=group, leased=one.leased) for one in consumers
                    ]
            await sleep(0)
        return found


def _asked(match: str, names: Iterable[str]) -> list[str]:
    """Those of the names that select the topic `match`, or that the pattern `match` covers."""
    wide = is_pattern(match)
    return [name for name in names if (covers(match, name) if wide else covers(name, match))]
