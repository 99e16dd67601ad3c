"""Managing groups."""

from collections.abc import Iterable

from ..answers.groups import GroupPage, GroupSort, GroupState
from ..answers.jobs import JobPage, JobState, Redriven
from ..answers.topics import TopicState
from ..wire import Duration, Since, duration, given, position, topic_path
from .caller import AsyncCaller


class AsyncGroups(AsyncCaller):
    """Shows groups and their messages, and changes them."""

    async def groups(self, topic: str) -> list[GroupState]:
        """The groups of a topic, sorted by name. Raises NotFound."""
        state = await self._read(TopicState, "GET", topic_path(topic))
        return [await self.group(topic, group) for group in state.groups]

    async def group_page(
        self,
        match: str | None = None,
        *,
        search: str | None = None,
        sort: GroupSort = "name",
        after: str | None = None,
        limit: int = 100,
    ) -> GroupPage:
        """At most `limit` groups (1,000) of all topics, or of those that the pattern matches, sorted by name or with
        the greatest figure first. `search`: those whose `topic/group` contains this text, in upper or lower case. Pass
        the page's `next` as `after` to read on."""
        query = given(match=match, search=search, sort=sort, after=after, limit=limit)
        return await self._read(GroupPage, "GET", "groups", params=query)

    async def group(self, topic: str, group: str) -> GroupState:
        """Raises NotFound."""
        path = topic_path(topic, "groups", group)
        return await self._read(GroupState, "GET", path)

    async def set_group(
        self,
        topic: str,
        group: str,
        *,
        start: Since | None = None,
        ack_timeout: Duration | None = None,
        max_deliveries: int | None = None,
        dead_letter: str | None = None,
    ) -> GroupState:
        """Create a group, or change its settings; None leaves a setting as it is. `start`: where a new group begins.
        `ack_timeout`: how long a lease lasts. `max_deliveries`: the attempts after which a job is dead, and moved to
        the topic `dead_letter`."""
        timeout = None if ack_timeout is None else duration(ack_timeout)
        begin = None if start is None else position(start)
        change = given(start=begin, ack_timeout=timeout, max_deliveries=max_deliveries, dead_letter=dead_letter)
        path = topic_path(topic, "groups", group)
        return await self._read(GroupState, "PUT", path, json=change)

    async def seek(self, topic: str, group: str, to: Since) -> GroupState:
        """Hand out exactly the messages after `to` from now on: an id, a time, `earliest` for all again, `latest` for
        only new ones. What is leased or delayed after it stays so."""
        path = topic_path(topic, "groups", group, "seek")
        return await self._read(GroupState, "POST", path, json={"to": position(to)})

    async def pause_group(self, topic: str, group: str) -> GroupState:
        """Hand out nothing until the group is resumed, also after a restart. What is leased can be settled."""
        path = topic_path(topic, "groups", group, "pause")
        return await self._read(GroupState, "POST", path)

    async def resume_group(self, topic: str, group: str) -> GroupState:
        """Hand out again."""
        path = topic_path(topic, "groups", group, "resume")
        return await self._read(GroupState, "POST", path)

    async def delete_group(self, topic: str, group: str) -> None:
        """Delete a group; the messages stay in the topic. Raises NotFound if there is none; also if a repeated request
        finds it deleted."""
        await self._insist("DELETE", topic_path(topic, "groups", group))

    async def jobs(
        self, topic: str, group: str, state: JobState = "ready", *, after: str | None = None, limit: int = 100
    ) -> JobPage:
        """Look at the messages of a group that are in this state, in the order of the log, without taking any: at most
        `limit` (1,000) and about 1 MiB. Pass the page's `next` as `after` to read on. Raises NotFound."""
        query = given(topic=topic, group=group, state=state, after=after, limit=limit)
        return await self._read(JobPage, "GET", "jobs", params=query)

    async def redrive(
        self, topic: str, group: str, ids: str | Iterable[str] | None = None, *, rate: int | None = None
    ) -> Redriven:
        """Return dead messages to this group, and to no other: those with these ids, which `jobs(..., "dead")` shows
        (1,000 at most, all or none of those that are there), or all of them (None). Their attempts begin anew. `rate`:
        how many of them become ready in a second. To repeat it does nothing twice. It needs the right to `admin` on the
        topic and on its dead-letter topic."""
        body = {"all": True} if ids is None else {"ids": [ids] if isinstance(ids, str) else [*ids]}
        path = topic_path(topic, "groups", group, "redrive")
        return await self._read(Redriven, "POST", path, params=given(rate=rate), json=body)
