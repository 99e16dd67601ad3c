"""The promise of an engine (app/storage/engine.py). Every engine passes every one of these."""

import asyncio
import itertools

import pytest

from app.errors import LogFull, MessageTooLarge, NotFound, TopicLimit
from app.log.directory import ListQuery
from app.log.idempotency import WINDOW
from app.log.reading import Page
from app.log.run import MESSAGE_COST
from app.log.topic_log import TOPIC_COST, Limits, Retention
from app.log.trimmer import TRIM_BATCH
from app.messages.message import Delivery, Draft, Envelope, Id, Receipt, Scheduled, parse_id
from app.messages.position import EARLIEST, LATEST, After, AfterIndex, Ago, GapReason, Last, Since, Start
from app.messages.scheduled_id import parse_scheduled_id
from app.messages.topic import TopicFilter
from app.storage import turns
from tests.engines.conftest import Make, Opened, drafts_text
from tests.harness import draft

ALL = Limits()


async def append(node: Opened, topic: str, *bodies: str, **options: object) -> Receipt:
    answer = await node.engine.append([draft(topic, body.encode(), **options) for body in bodies])  # type: ignore[arg-type]
    assert isinstance(answer, Receipt)
    return answer


async def page(node: Opened, *names: str, start: Start = EARLIEST, take: bool = False, limit: int = 1_000) -> Page:
    topic_filter = TopicFilter(names)
    cursor = await node.engine.locate(topic_filter, start)
    return await node.engine.read(topic_filter, cursor, limit=limit, nbytes=1 << 30, take=take)


async def texts(node: Opened, *names: str, start: Start = EARLIEST, take: bool = False) -> list[str]:
    return drafts_text((await page(node, *names, start=start, take=take)).messages)


async def test_every_accepted_message_is_delivered_once_in_log_order_before_its_receipt(opened: Make) -> None:
    async with opened(ALL) as node:
        for n in range(50):
            receipt = await append(node, f"t{n % 3}", str(n))
            assert node.delivered[-1].id == receipt.id
        assert [message.seq for message in node.delivered] == list(range(1, 51))
        assert drafts_text(node.delivered) == [str(n) for n in range(50)]


async def test_concurrent_appends_keep_seq_dense_and_delivery_in_order(opened: Make) -> None:
    async with opened(ALL) as node:
        receipts = await asyncio.gather(*(append(node, f"t{n % 7}", str(n)) for n in range(200)))
        assert {parse_id(receipt.id).seq for receipt in receipts} == set(range(1, 201))
        assert [message.seq for message in node.delivered] == list(range(1, 201))


async def test_index_is_dense_per_topic(opened: Make) -> None:
    async with opened(ALL) as node:
        receipts = [await append(node, topic, "x") for topic in ("a", "b", "a", "a", "b")]
        assert [(receipt.topic, receipt.index) for receipt in receipts] == [
            ("a", 0), ("b", 0), ("a", 1), ("a", 2), ("b", 1),
        ]  # fmt: skip


async def test_a_receipt_counts_those_it_was_handed_to(opened: Make) -> None:
    async with opened(ALL) as node:
        node.takers = 3
        assert (await append(node, "a", "x")).subscribers == 3
        assert (await append(node, "a", "x", delivery=Delivery.ONE)).subscribers == 1


async def test_a_batch_is_in_one_piece(opened: Make) -> None:
    async with opened(ALL) as node:
        receipt = await append(node, "a", "1", "2", "3")
        assert (parse_id(receipt.id).seq, parse_id(receipt.last).seq, receipt.count) == (1, 3, 3)


async def test_a_batch_that_does_not_fit_leaves_nothing(opened: Make) -> None:
    async with opened(Limits(Retention(max_bytes=4))) as node:
        with pytest.raises(MessageTooLarge):
            await append(node, "a", "1", "12345")
        assert node.delivered == []
        assert await texts(node, "a") == []
        assert (await append(node, "a", "2")).index == 0


async def test_retention_by_count_bytes_and_age(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=3, max_bytes=10, max_age=100.0))) as node:
        await append(node, "count", "1", "2", "3", "4")
        assert await texts(node, "count") == ["2", "3", "4"]
        await append(node, "bytes", "aaaa", "bbbb", "cccc")
        assert await texts(node, "bytes") == ["bbbb", "cccc"]
        node.clock.now += 60
        await append(node, "count", "5")
        node.clock.now += 40
        assert await texts(node, "count") == ["5"]
        assert await texts(node, "bytes") == []


async def test_a_topic_has_its_own_retention_and_keeps_it_when_it_is_empty(opened: Make) -> None:
    async with opened(Limits(topic_idle=10.0)) as node:
        await append(node, "a", "1", "2", "3")
        await node.engine.configure("a", {"max_messages": 2})
        await append(node, "b", "1", "2", "3")
        assert await texts(node, "a") == ["2", "3"]
        assert await texts(node, "b") == ["1", "2", "3"]
        await node.engine.configure("a", {"max_age": 5.0})
        node.clock.now += 1_000_000
        state = await node.engine.topic("a")
        assert (state.messages, state.retention.max_messages, state.retention.max_age) == (0, 2, 5.0)


async def test_an_empty_idle_topic_goes_and_its_loss_is_remembered(opened: Make) -> None:
    async with opened(Limits(Retention(max_age=10.0), topic_idle=50.0)) as node:
        id = parse_id((await append(node, "a", "1", "2")).id)
        node.clock.now += 49
        assert (await node.engine.topic("a")).messages == 0
        node.clock.now += 2
        with pytest.raises(NotFound):
            await node.engine.topic("a")
        for names in (["a"], ["*"], ["**"]):
            gap = (await page(node, *names, start=After(id))).gap
            assert gap is not None
            assert gap.reason is GapReason.TRIMMED
        assert (await append(node, "a", "3")).index == 0
        assert (await page(node, "a", start=After(id))).gap is not None


async def test_an_unrelated_loss_is_no_gap(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=1))) as node:
        id = parse_id((await append(node, "a", "1")).id)
        await append(node, "b.x", "1", "2", "3")
        for names in (["a"], ["a.*"], ["a", "c"], ["nobody"]):
            assert (await page(node, *names, start=After(id))).gap is None
        for names in (["b.x"], ["b.*"], ["a", "b.x"], ["**"]):
            assert (await page(node, *names, start=After(id))).gap is not None


async def test_one_id_resumes_any_set_of_topics_in_log_order(opened: Make) -> None:
    async with opened(ALL) as node:
        receipts = [await append(node, topic, f"{topic}{n}") for n, topic in enumerate(["a", "b.x", "c", "a", "b.y/z"])]
        everything = ["a0", "b.x1", "c2", "a3", "b.y/z4"]
        for place, receipt in enumerate(receipts):
            after = After(parse_id(receipt.id))
            for names, selected in (
                (["**"], everything),
                (["a", "b.x"], ["a0", "b.x1", "a3"]),
                (["b.*"], ["b.x1"]),
                (["b.**"], ["b.x1", "b.y/z4"]),
                (["b.y/*", "c"], ["c2", "b.y/z4"]),
            ):
                expected = [text for text in selected if everything.index(text) > place]
                assert await texts(node, *names, start=after) == expected


async def test_pages_follow_each_other_without_hole_or_duplicate(opened: Make) -> None:
    async with opened(ALL) as node:
        await append(node, "a", *map(str, range(100)))
        await append(node, "b", "not selected")
        topic_filter = TopicFilter(["a"])
        cursor = await node.engine.locate(topic_filter, EARLIEST)
        seen: list[str] = []
        while True:
            part = await node.engine.read(topic_filter, cursor, limit=7, nbytes=1 << 30, take=False)
            if not part.messages:
                break
            assert len(part.messages) <= 7
            seen += drafts_text(part.messages)
            cursor = part.cursor
        assert seen == list(map(str, range(100)))


async def test_a_page_ends_soon_after_its_bytes(opened: Make) -> None:
    async with opened(ALL) as node:
        await append(node, "a", *["x" * 100] * 50)
        topic_filter = TopicFilter(["a"])
        cursor = await node.engine.locate(topic_filter, EARLIEST)
        part = await node.engine.read(topic_filter, cursor, limit=1_000, nbytes=1_000, take=False)
        assert len(part.messages) == 10


async def test_starts(opened: Make) -> None:
    async with opened(ALL) as node:
        begin = node.clock.now
        for n in range(5):
            await append(node, "a", str(n))
            await append(node, "b", f"b{n}")
            node.clock.now += 10
        assert await texts(node, "a", start=LATEST) == []
        assert await texts(node, "a", start=Last(2)) == ["3", "4"]
        assert await texts(node, "a", "b", start=Last(3)) == ["b3", "4", "b4"]
        assert await texts(node, "*", start=Last(99)) == ["0", "b0", "1", "b1", "2", "b2", "3", "b3", "4", "b4"]
        assert await texts(node, "a", start=Last(0)) == []
        assert await texts(node, "a", start=Ago(25.0)) == ["3", "4"]
        assert await texts(node, "a", start=Since(begin + 20)) == ["2", "3", "4"]
        assert await texts(node, "a", start=Since(begin + 21)) == ["3", "4"]
        assert await texts(node, "a", start=Since(begin + 1_000)) == []
        assert await texts(node, "a", start=AfterIndex(1)) == ["2", "3", "4"]
        assert await texts(node, "a", start=AfterIndex(-1)) == ["0", "1", "2", "3", "4"]
        assert await texts(node, "missing", start=AfterIndex(1)) == []


async def test_a_time_before_a_loss_is_a_gap_and_one_after_it_is_not(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=2))) as node:
        begin = node.clock.now
        for n in range(4):
            await append(node, "a", str(n))
            node.clock.now += 10
        early = await page(node, "a", start=Since(begin + 5))
        assert (early.gap is not None, drafts_text(early.messages)) == (True, ["2", "3"])
        late = await page(node, "a", start=Since(begin + 15))
        assert (late.gap, drafts_text(late.messages)) == (None, ["2", "3"])


async def test_a_gap_is_reported_once_and_again_only_for_a_new_loss(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=2))) as node:
        epoch = node.engine.epoch
        await append(node, "a", "1", "2", "3")
        topic_filter = TopicFilter(["a"])
        cursor = await node.engine.locate(topic_filter, After(Id(epoch, 0)))
        first = await node.engine.read(topic_filter, cursor, limit=1, nbytes=1 << 30, take=False)
        assert first.gap is not None
        assert (first.gap.missed, first.gap.resumes_at) == (1, f"{epoch}-2")
        second = await node.engine.read(topic_filter, first.cursor, limit=1, nbytes=1 << 30, take=False)
        assert second.gap is None
        await append(node, "a", "4", "5", "6")
        third = await node.engine.read(topic_filter, second.cursor, limit=9, nbytes=1 << 30, take=False)
        assert third.gap is not None
        assert drafts_text(third.messages) == ["5", "6"]


async def test_expired_messages_are_gone_and_are_no_loss(opened: Make) -> None:
    async with opened(ALL) as node:
        await append(node, "a", "short", ttl=10.0)
        await append(node, "a", "long")
        node.clock.now += 9.9
        assert await texts(node, "a") == ["short", "long"]
        node.clock.now += 0.2
        got = await page(node, "a", start=After(Id(node.engine.epoch, 0)))
        assert (drafts_text(got.messages), got.gap) == (["long"], None)


async def test_nobody_gets_an_expired_message_however_many_there_are(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=10_000))) as node:
        for delivery in Delivery:
            await append(node, "a", *["x"] * 3_000, ttl=10.0, delivery=delivery)
        node.clock.now += 11
        assert await texts(node, "a", start=LATEST, take=True) == []
        assert await texts(node, "a", take=True) == []


async def test_what_is_not_retained_has_a_place_but_no_copy(opened: Make) -> None:
    async with opened(ALL) as node:
        receipt = await append(node, "a", "passing", retain=False)
        await append(node, "a", "kept")
        assert drafts_text(node.delivered) == ["passing", "kept"]
        got = await page(node, "a", start=After(Id(node.engine.epoch, 0)))
        assert (drafts_text(got.messages), got.gap) == (["kept"], None)
        assert await node.engine.get(parse_id(receipt.id)) is None


async def test_what_is_for_one_waits_and_is_handed_out_once(opened: Make) -> None:
    async with opened(ALL) as node:
        await append(node, "a", "1", delivery=Delivery.ONE)
        await append(node, "a", "2")
        await append(node, "a", "3", delivery=Delivery.ONE)
        assert await texts(node, "a") == ["2"]
        assert await texts(node, "*", start=LATEST, take=True) == ["1", "3"]
        assert await texts(node, "a", take=True) == ["2"]


async def test_a_message_handed_to_one_subscriber_is_kept_until_it_has_it_and_no_other_gets_it(opened: Make) -> None:
    async with opened(ALL) as node:
        node.takers = 2
        await append(node, "a", "1", delivery=Delivery.ONE)
        node.takers = 0
        await append(node, "a", "2", delivery=Delivery.ONE)
        for start, expected in ((LATEST, ["2"]), (LATEST, []), (EARLIEST, [])):
            assert await texts(node, "a", start=start, take=True) == expected
        assert (await node.engine.topic("a")).messages == 2
        node.engine.taken([1, 2])
        assert (await node.engine.topic("a")).messages == 0
        assert await texts(node, "a", take=True) == []


async def test_a_message_that_was_not_received_waits_for_another_subscriber_in_its_order(opened: Make) -> None:
    async with opened(ALL) as node:
        node.takers = 1
        await append(node, "a", "1", delivery=Delivery.ONE)
        node.takers = 0
        await append(node, "a", *"2345", delivery=Delivery.ONE)
        assert drafts_text((await page(node, "a", start=LATEST, take=True, limit=2)).messages) == ["2", "3"]
        node.engine.taken([2])
        await node.engine.give_back([3, 1])
        assert await texts(node, "a", start=LATEST, take=True) == ["1", "3", "4", "5"]


async def test_a_message_handed_to_one_subscriber_may_expire_or_go_with_its_topic_meanwhile(opened: Make) -> None:
    async with opened(ALL) as node:
        await append(node, "a", "short", delivery=Delivery.ONE, ttl=1.0)
        await append(node, "b", "1", delivery=Delivery.ONE)
        assert await texts(node, "*", start=LATEST, take=True) == ["short", "1"]
        node.clock.now += 2
        await node.engine.drop("b")
        await append(node, "b", "2", delivery=Delivery.ONE)
        await node.engine.give_back([1])
        node.engine.taken([2])
        assert await texts(node, "*", start=LATEST, take=True) == ["2"]
        assert [(state.topic, state.messages) for state in (await node.engine.topics(ListQuery())).items] == [
            ("a", 0),
            ("b", 1),
        ]


async def test_the_same_key_stores_nothing_twice_for_two_minutes(opened: Make) -> None:
    async with opened(ALL) as node:
        first = await append(node, "a", "x", key="k")
        again = await append(node, "a", "x", key="k")
        other = await append(node, "b", "x", key="k")
        assert (again.id, again.duplicate, first.duplicate, other.duplicate) == (first.id, True, False, False)
        assert len(node.delivered) == 2
        node.clock.now += 119
        assert (await append(node, "a", "x", key="k")).duplicate
        node.clock.now += 2
        assert not (await append(node, "a", "x", key="k")).duplicate


async def test_the_keys_of_a_topic_go_with_it_when_it_is_deleted(opened: Make) -> None:
    async with opened(ALL) as node:
        first = await append(node, "a", "x", key="k")
        other = await append(node, "b", "x", key="k")
        await node.engine.append([draft("a", b"late", key="d", delay=50.0)])
        await node.engine.drop("a")
        new = await append(node, "a", "x", key="k")
        assert (new.duplicate, new.index, new.id != first.id) == (False, 0, True)
        assert await texts(node, "a") == ["x"]
        assert await node.engine.append([draft("a", b"late", key="d", delay=50.0)]) == Scheduled(
            1, node.clock.now + 50, id=f"{node.engine.epoch}-d2"
        )
        again = await append(node, "a", "x", key="k")
        assert (again.duplicate, again.id) == (True, new.id)
        assert (await append(node, "b", "x", key="k")).id == other.id


async def test_the_keys_of_messages_go_with_them_when_they_are_purged(opened: Make) -> None:
    async with opened(ALL) as node:
        first = await append(node, "a", "x", key="first")
        batch = await node.engine.append([Draft(Envelope("a", "text/plain"), [b"y", b"z"], idempotency_key="batch")])
        last = await append(node, "a", "last", key="last")
        other = await append(node, "b", "x", key="first")
        late = await node.engine.append([draft("a", b"late", key="late", delay=50.0)])
        assert isinstance(batch, Receipt)
        assert await node.engine.purge("a", ("an id", After(parse_id(batch.last)))) == 2
        kept = await append(node, "a", "z", key="batch")
        assert (kept.duplicate, kept.id) == (True, batch.id)  # one of its messages is there
        new = await append(node, "a", "x", key="first")
        assert (new.duplicate, new.id != first.id) == (False, True)
        assert (await append(node, "a", "last", key="last")).id == last.id
        assert await node.engine.purge("a") == 3
        for key in ("first", "batch", "last"):
            assert not (await append(node, "a", "again", key=key)).duplicate
        assert await texts(node, "a") == ["again"] * 3
        assert (await append(node, "b", "x", key="first")).id == other.id
        again = await node.engine.append([draft("a", b"late", key="late", delay=50.0)])
        assert isinstance(late, Scheduled)
        assert isinstance(again, Scheduled)
        assert (again.duplicate, again.id) == (True, late.id)  # it is still to come


async def test_the_key_of_a_delayed_publish_goes_when_it_is_cancelled_unless_it_was_used_anew(opened: Make) -> None:
    async def schedule(node: Opened) -> Scheduled:
        answer = await node.engine.append([draft("a", b"late", key="k", delay=1_000.0)])
        assert isinstance(answer, Scheduled)
        return answer

    async with opened(ALL) as node:
        first = await schedule(node)
        await node.engine.cancel_scheduled(parse_scheduled_id(first.id))
        second = await schedule(node)
        assert (second.duplicate, second.id != first.id) == (False, True)
        node.clock.now += WINDOW
        third = await schedule(node)
        await node.engine.cancel_scheduled(parse_scheduled_id(second.id))
        again = await schedule(node)
        assert (again.duplicate, again.id) == (True, third.id)


async def test_a_publish_while_its_topic_is_deleted_is_not_affected_by_the_old_topic(opened: Make) -> None:
    async with opened(ALL) as node:
        node.takers = 1  # so what a publisher is told is corrected when it is delivered
        old, _, new = await asyncio.gather(
            node.engine.append([draft("a", b"old", key="k")]),
            node.engine.drop("a"),
            node.engine.append([draft("a", b"new", key="k")]),
        )
        assert isinstance(new, Receipt)
        assert (new.duplicate, new.id != getattr(old, "id", None)) == (False, True)
        again = await append(node, "a", "new", key="k")
        assert (again.duplicate, again.id, again.subscribers) == (True, new.id, 1)


async def test_what_time_and_retention_took_is_known_by_its_key_all_the_same(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=1), topic_idle=5.0)) as node:
        trimmed = await append(node, "trimmed", "x", key="k")
        await append(node, "trimmed", "y")
        over = await append(node, "over", "x", key="k", ttl=1.0)
        node.takers = 1
        taken = await append(node, "taken", "x", key="k", delivery=Delivery.ONE)
        unkept = await append(node, "unkept", "x", key="k", retain=False)
        node.takers = 0
        node.engine.taken([parse_id(taken.id).seq])
        node.clock.now += 60
        assert [state.topic for state in (await node.engine.topics(ListQuery())).items] == [
            "trimmed"
        ]  # the others went idle
        for first in (trimmed, over, taken, unkept):
            again = await append(node, first.topic, "x", key="k")
            assert (again.duplicate, again.id, again.index) == (True, first.id, first.index)
        assert await texts(node, "**") == ["y"]


async def test_a_refused_publish_does_not_use_its_key_up(opened: Make) -> None:
    async with opened(Limits(Retention(max_bytes=4))) as node:
        with pytest.raises(MessageTooLarge):
            await append(node, "a", "12345", key="k")
        assert not (await append(node, "a", "1", key="k")).duplicate


async def test_headers_are_kept_and_messages_that_differ_in_them_stay_apart(opened: Make) -> None:
    async with opened(ALL) as node:
        for headers in (b'{"a":"1"}', b'{"a":"1"}', b'{"a":"2"}', None):
            await append(node, "a", "x", headers=headers)
        kept = [b'{"a":"1"}', b'{"a":"1"}', b'{"a":"2"}', None]
        assert [message.headers for message in (await page(node, "a")).messages] == kept
        assert [message.headers for message in node.delivered] == kept


async def test_a_delayed_message_takes_its_place_when_it_is_due(opened: Make) -> None:
    async with opened(ALL) as node:
        answer = await node.engine.append([draft("a", b"later", delay=0.05)])
        assert answer == Scheduled(1, node.clock.now + 0.05, id=f"{node.engine.epoch}-d1")
        await append(node, "a", "now")
        assert drafts_text(node.delivered) == ["now"]
        node.news.clear()
        node.clock.now += 0.05
        async with asyncio.timeout(10):
            await node.news.wait()
        assert [(message.seq, message.data) for message in node.delivered] == [(1, b"now"), (2, b"later")]


async def test_what_is_to_come_later_is_shown_and_goes_with_its_topic(opened: Make) -> None:
    async with opened(Limits(total_bytes=10_000, topic_idle=5.0)) as node:
        for delay in (0.1, 20.0):
            await node.engine.append([draft("a", b"x" * 1_000, delay=delay), draft("a", b"", delay=delay)])
        await node.engine.append([draft("b", b"x" * 1_000, delay=0.1)])
        node.clock.now += 0.05
        states = (await node.engine.topics(ListQuery())).items
        assert [(state.topic, state.messages, state.delayed) for state in states] == [("a", 0, 4), ("b", 0, 1)]
        node.clock.now += 0.05
        async with asyncio.timeout(10):
            while len(node.delivered) < 3:
                node.news.clear()
                await node.engine.topics(ListQuery())
                await node.news.wait()
        states = (await node.engine.topics(ListQuery())).items
        assert [(state.topic, state.messages, state.delayed) for state in states] == [("a", 2, 2), ("b", 1, 0)]
        await node.engine.drop("a")
        await node.engine.drop("b")
        assert (await node.engine.totals()).cost == 0
        node.clock.now += 100
        await append(node, "c", "after")
        assert [message.topic for message in node.delivered].count("a") == 2
        with pytest.raises(NotFound):
            await node.engine.topic("a")


async def test_topics_are_bounded_and_the_next_one_is_refused(opened: Make) -> None:
    async with opened(Limits(topics=2)) as node:
        await append(node, "a", "x")
        await append(node, "b", "x")
        with pytest.raises(TopicLimit):
            await append(node, "c", "x")
        with pytest.raises(TopicLimit):
            await node.engine.configure("c", {})
        await node.engine.drop("a")
        await append(node, "c", "x")


async def test_memory_is_bounded_and_a_full_log_refuses_rather_than_forgets(opened: Make) -> None:
    room = 2 * TOPIC_COST + 4 * MESSAGE_COST
    async with opened(Limits(Retention(max_messages=3), total_bytes=room)) as node:
        await append(node, "a", "", "", "")
        await append(node, "b", "")
        with pytest.raises(LogFull):
            await append(node, "b", "")
        with pytest.raises(LogFull):
            await append(node, "c", "")
        await append(node, "a", "")  # its own retention makes room
        assert [state.messages for state in (await node.engine.topics(ListQuery())).items] == [3, 1]
        await node.engine.drop("a")
        await append(node, "b", "", "")


async def test_a_deleted_topic_is_a_gap_for_a_subscriber_that_resumes(opened: Make) -> None:
    async with opened(ALL) as node:
        first = parse_id((await append(node, "a", "1")).id)
        await append(node, "a", "2")
        await node.engine.drop("a")
        assert await texts(node, "a") == []
        gap = (await page(node, "a", start=After(first))).gap
        assert gap is not None
        with pytest.raises(NotFound):
            await node.engine.drop("a")


async def test_topics_are_listed_by_name_with_what_they_hold(opened: Make) -> None:
    async with opened(ALL) as node:
        await append(node, "b", "12345")
        await append(node, "a.x", "1", "23")
        states = (await node.engine.topics(ListQuery())).items
        assert [(s.topic, s.messages, s.bytes) for s in states] == [("a.x", 2, 3), ("b", 1, 5)]
        assert (states[0].first, states[0].last) == (f"{node.engine.epoch}-2", f"{node.engine.epoch}-3")
        assert [s.topic for s in (await node.engine.topics(ListQuery(TopicFilter(["a.*"])))).items] == ["a.x"]


async def test_a_message_is_found_by_its_id_while_it_is_retained(opened: Make) -> None:
    async with opened(Limits(Retention(max_messages=1))) as node:
        first = parse_id((await append(node, "a", "1")).id)
        second = parse_id((await append(node, "a", "2")).id)
        assert await node.engine.get(first) is None
        found = await node.engine.get(second)
        assert found is not None
        assert found.data == b"2"
        assert await node.engine.get(Id("other", second.seq)) is None


@pytest.mark.parametrize("change", [{"max_messages": 3}, {"max_bytes": 12}, {"max_age": 50.0}], ids=str)
async def test_a_retention_that_is_lowered_far_takes_its_messages_in_pieces(
    opened: Make, change: dict[str, float]
) -> None:
    numbers = [f"{number:04}" for number in range(2 * TRIM_BATCH + 10)]
    async with opened(Limits(Retention(max_messages=10_000))) as node:
        await append(node, "a", *numbers[:-3])
        node.clock.now += 60.0
        await append(node, "a", *numbers[-3:])
        await node.engine.configure("a", change)
        told = [(await node.engine.topic("a")).messages for _ in range(4)]
        assert told[-1] == 3
        assert all(before - after <= TRIM_BATCH for before, after in itertools.pairwise(told))
        assert await texts(node, "a") == numbers[-3:]
        assert (await page(node, "a", start=After(Id(node.engine.epoch, 0)))).gap is not None


async def test_retention_by_bytes_takes_no_more_than_it_must(opened: Make) -> None:
    async with opened(Limits(Retention(max_bytes=10))) as node:
        await append(node, "a", "aaaa", "")
        await append(node, "a", "b" * 10)
        assert await texts(node, "a") == ["", "b" * 10]
        await append(node, "a", "c", "d", "e")
        assert await texts(node, "a") == ["c", "d", "e"]
        await append(node, "a", "f" * 8)
        assert await texts(node, "a") == ["d", "e", "f" * 8]


async def test_an_engine_closes_while_cancelled_queries_wait(opened: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)  # one slice a turn
    async with opened(Limits(retention=Retention(max_messages=100_000))) as node:
        await asyncio.gather(*(node.engine.append([draft(f"t.{number % 100}", b"x")]) for number in range(10_000)))
        questions = [node.engine.locate(TopicFilter(["no.*"]), Last(1)) for _ in range(50)]
        assert not questions[-1].done()
        questions[-1].cancel()
    assert questions[-1].cancelled()
    await asyncio.gather(*questions, return_exceptions=True)
