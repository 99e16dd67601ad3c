"""The directory: topics and groups, each with the number of its subscribers or consumers at all servers of the log."""

from asyncio import sleep
from typing import Final

import msgspec

from ..consumers.registry import ConsumerRegistry
from ..fanout.fanout import Fanout
from ..log.directory import ListPage, ListQuery
from ..log.groups.state import GroupState
from ..log.topic_log import TopicState
from ..storage.engine import Engine

ALL_TOPICS: Final = ListQuery()
TOPICS_A_TURN: Final = 500  # of a list: a few milliseconds of work, then other tasks run


class TopicInfo(msgspec.Struct, frozen=True):
    """A topic's state, and its subscribers."""

    state: TopicState
    subscribers: int


class GroupInfo(msgspec.Struct, frozen=True):
    """A group's state, and its consumers."""

    state: GroupState
    workers: int


class Directory:
    def __init__(self, engine: Engine, fanout: Fanout, consumers: ConsumerRegistry) -> None:
        self._engine = engine
        self._fanout = fanout
        self._consumers = consumers

    async def topics(self, query: ListQuery = ALL_TOPICS) -> ListPage[TopicInfo]:
        """Raises OptionInvalid."""
        infos: list[TopicInfo] = []
        page = await self._engine.topics(query)
        for start in range(0, len(page.items), TOPICS_A_TURN):
            infos += [self._topic_info(state) for state in page.items[start : start + TOPICS_A_TURN]]
            await sleep(0)
        return ListPage(infos, page.next, page.total)

    async def topic(self, name: str) -> TopicInfo:
        """Raises NotFound."""
        return self._topic_info(await self._engine.topic(name))

    async def groups(self, query: ListQuery) -> ListPage[GroupInfo]:
        """The groups of all topics that the query selects. Raises OptionInvalid."""
        page = await self._engine.groups(query)
        return ListPage([self._group_info(state) for state in page.items], page.next, page.total)

    async def group(self, topic: str, group: str) -> GroupInfo:
        """Raises NotFound."""
        return self._group_info(await self._engine.group(topic, group))

    def _topic_info(self, state: TopicState) -> TopicInfo:
        here, elsewhere = self._fanout.subscribers(state.topic), self._engine.elsewhere.subscribers(state.topic)
        return TopicInfo(state, here + elsewhere)

    def _group_info(self, state: GroupState) -> GroupInfo:
        here = self._consumers.count(state.topic, state.group)
        return GroupInfo(state, here + self._engine.elsewhere.consumers(state.topic, state.group))
