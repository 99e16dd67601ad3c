"""The audience: who listens to which topics, and who works in which groups, at this server."""

from asyncio import sleep
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from ..consumers.registry import ConsumerRegistry
from ..fanout.fanout import Fanout
from ..fanout.presence import Presence
from ..log.slices import sliced
from ..messages.topic import covers, is_pattern
from .siblings import Siblings

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


class AudienceQuery(msgspec.Struct, frozen=True):
    """Who gets messages of a topic in `names`, or listens to topics and patterns that a pattern in it covers; with
    `search`, only those of whom a name contains this text, in small letters. A page of them: `limit` behind the number
    `after`."""

    names: Sequence[str]
    search: str = ""
    after: int = 0
    limit: int = 100

    def selects(self, attendee: Attendee) -> bool:
        known = (attendee.presence.who, attendee.kind, attendee.group or "", *attendee.names)
        return any(self.search in name.lower() for name in known)


class AudiencePage(msgspec.Struct, frozen=True):
    """In the order of arrival. `next`: the number after which the next page begins; None if this is the last one.
    `total`: how many are selected."""

    attendees: list[Attendee]
    next: int | None
    total: int


class Audience:
    def __init__(self, fanout: Fanout, consumers: ConsumerRegistry) -> None:
        self._fanout = fanout
        self._consumers = consumers

    async def page(self, query: AudienceQuery) -> AudiencePage:
        """Of this process."""
        selected = [one for one in await self._all(query.names) if query.selects(one)]
        return _page([one for one in selected if one.presence.number > query.after], query.limit, len(selected))

    async def page_of_all(self, query: AudienceQuery, siblings: Siblings) -> AudiencePage:
        """Of all workers."""
        own = msgspec.msgpack.encode(await self.page(query))
        merged = await siblings.merged("audience", own, msgspec.msgpack.encode(query))
        return msgspec.msgpack.decode(merged, type=AudiencePage)

    async def _all(self, wanted: Sequence[str]) -> list[Attendee]:
        found: list[Attendee] = []
        head = self._fanout.head
        for cohorts in sliced(self._fanout.cohorts, SEARCH_EFFORT):
            for cohort in cohorts:
                if names := _asked(wanted, (*cohort.topic_filter.topics, *cohort.topic_filter.patterns)):
                    kind = cohort.encoder.kind
                    found += [Attendee(one.presence, kind, names, True, head) for one in cohort.live]
                    found += [Attendee(one.presence, kind, names, False, one.position) for one in cohort.catching_up]
            await sleep(0)
        for dispatchers in sliced(self._consumers.dispatchers, SEARCH_EFFORT):
            for dispatcher in dispatchers:
                if names := _asked(wanted, (dispatcher.topic,)):
                    group, consumers = dispatcher.group, dispatcher.consumers
                    found += [
                        Attendee(one.presence, "worker", names, group=group, leased=one.leased) for one in consumers
                    ]
            await sleep(0)
        return found


def merged_page(pages: Sequence[AudiencePage], limit: int) -> AudiencePage:
    """The pages of several workers as one."""
    found = [one for page in pages for one in page.attendees]
    return _page(found, limit, sum(page.total for page in pages), more=any(page.next is not None for page in pages))


def _page(found: list[Attendee], limit: int, total: int, more: bool = False) -> AudiencePage:
    """`more`: there are more than these."""
    found.sort(key=lambda one: one.presence.number)
    following = found[limit - 1].presence.number if more or len(found) > limit else None
    return AudiencePage(found[:limit], following, total)


def _asked(wanted: Sequence[str], names: Iterable[str]) -> list[str]:
    """Those of the names that select a wanted topic, or that a wanted pattern covers."""
    return [name for name in names if any(_concerns(one, name) for one in wanted)]


def _concerns(wanted: str, name: str) -> bool:
    return covers(wanted, name) if is_pattern(wanted) else covers(name, wanted)
