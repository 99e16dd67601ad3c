"""Workers that have their work pushed: the stream of a group."""

import json

from tests.event_stream import stream
from tests.harness import ServerProcess, http_client, start_server
from tests.web.groups import Group, code, jobs


async def test_work_is_pushed_with_the_head_of_an_ordinary_stream(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    (id,) = await group.publish("work", event="resize")
    async with stream(server, f"{group.path}/stream", Last_Event_ID="other-999") as events:
        assert events.status == 200
        assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert events.headers["cache-control"] == "no-store"
        assert events.headers["x-accel-buffering"] == "no"
        (event,) = await events.take(1)
        assert events.parser.comments == ["plainmq"]
        assert events.parser.retry in range(1_000, 30_001)
    assert (event.type, event.last_event_id) == ("resize", id)
    job = json.loads(event.data)
    assert (job["data"], job["attempt"], job["lease"]) == ("work", 1, f"{id}-1")


async def test_credit_bounds_what_is_not_acked(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    ids = await group.publish(*map(str, range(5)))
    async with stream(server, f"{group.path}/stream?credit=2") as events:
        assert jobs(await events.data(2)) == [("0", 1), ("1", 1)]
        assert await group.counters("leased", "ready") == (2, 3)
        await group.settle("ack", ids[0])
        assert jobs(await events.data(1)) == [("2", 1)]
        await group.settle("ack", ids[1], ids[2])
        assert jobs(await events.data(2)) == [("3", 1), ("4", 1)]
        assert await group.counters("leased", "acked") == (2, 3)


async def test_a_lost_stream_s_messages_go_to_another_worker_at_once(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    async with stream(server, f"{group.path}/stream") as lost, stream(server, f"{group.path}/stream") as other:
        await group.until("workers", 2)
        await group.publish("1", "2")
        assert jobs(await lost.data(1) + await other.data(1)) == [("1", 1), ("2", 1)]
        lost.writer.transport.abort()
        assert jobs(await other.data(1)) == [("1", 2)]


async def test_a_lease_that_ends_on_a_stream_makes_room_for_the_next(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    await group.publish("work")
    async with stream(server, f"{group.path}/stream?credit=1&lease=20ms") as events:
        assert jobs(await events.data(2)) == [("work", 1), ("work", 2)]


async def test_work_that_comes_later_is_pushed(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    async with stream(server, f"{group.path}/stream") as events:
        await group.publish("news")
        assert jobs(await events.data(1)) == [("news", 1)]
        assert await group.counters("workers") == (1,)
    await group.until("workers", 0)


async def test_a_stalled_worker_holds_no_more_than_its_credit(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    await group.publish(*["x" * 200_000] * 8)
    async with stream(server, f"{group.path}/stream?credit=4"):  # and nothing is read
        await group.until("leased", 4)
        assert len(await group.pull()) == 4


async def test_a_stream_of_a_deleted_group_says_goodbye(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    await group.publish("work")
    async with stream(server, f"{group.path}/stream") as events:
        await events.take(1)
        await group.http.delete(group.path)
        (bye,) = await events.take(1)
        assert (bye.type, json.loads(bye.data)) == ("bye", {"reason": "deleted"})
        assert await events.next() is None
        assert events.ended_in_order


async def test_a_stream_with_a_timeout_ends_without_a_word_and_gives_back(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    await group.publish("work")
    async with stream(server, f"{group.path}/stream?timeout=50ms") as events:
        assert jobs(await events.data(1)) == [("work", 1)]
        assert await events.next() is None
    assert [message["attempt"] for message in await group.pull(wait="20s")] == [2]


async def test_a_group_s_stream_is_kept_alive_and_ends_at_its_age() -> None:
    with start_server("--keep-alive", "50ms", "--stream-age", "300ms", tcp_port=0) as quick:
        async with http_client(quick.url) as http:
            await http.put("/topics/foo/groups/g")
        async with stream(quick, "/topics/foo/groups/g/stream") as events:
            (bye,) = await events.take(1)
            assert (bye.type, json.loads(bye.data)) == ("bye", {"reason": "age"})
            assert events.parser.comments[:2] == ["plainmq", ""]
            assert await events.next() is None


async def test_one_consumer_too_many_is_asked_to_come_back() -> None:
    with start_server("--max-subscribers", "1", tcp_port=0) as small:
        async with http_client(small.url) as http:
            await http.put("/topics/foo/groups/g")
            async with stream(small, "/topics/foo/groups/g/stream"):
                async with stream(small, "/topics/foo/groups/g/stream", Accept="text/event-stream") as refused:
                    (busy,) = await refused.take(1)
                    assert (refused.status, busy.type) == (200, "busy")
                for answer in (
                    await http.get("/topics/foo/groups/g/stream"),
                    await http.post("/topics/foo/groups/g/pull"),
                ):
                    assert code(answer) == (503, "subscriber_limit")


async def test_head_answers_without_a_stream(group: Group) -> None:
    await group.http.put(group.path)
    answer = await group.http.head(f"{group.path}/stream")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert await group.counters("workers") == (0,)
