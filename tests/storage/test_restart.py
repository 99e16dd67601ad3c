"""A log that is opened again is as it was: after a stop in good order, and as it lay on the disk in a cut of power."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from app.errors import LogFull, NotFound, OptionInvalid
from app.log.directory import ListQuery
from app.log.groups.size import GROUP_COST
from app.log.groups.state import DeadLetterTopic
from app.log.run import EXPIRY_COST
from app.log.topic_log import Limits, Retention
from app.messages.lease import Action, Lease, LeaseId, Outcome, lease_id, parse_lease_id
from app.messages.message import TEXT, Delivery, Draft, Id, Scheduled, parse_id
from app.messages.ordering import make_ordering
from app.messages.position import EARLIEST, LATEST, After, AfterIndex, Ago, Last, Start
from app.messages.topic import TopicFilter
from app.storage.sqlite.backup import backup
from app.tcp.dialects.commands import Send
from app.tcp.dialects.detect import LITERAL
from tests.engines.conftest import Opened, drafts_text
from tests.harness import DEADLINE, draft
from tests.storage.reopening import LogFile, append, everything, make_older, page, unmetered


@pytest.fixture(params=["stopped", "cut"])
def log_file(request: pytest.FixtureRequest, tmp_path: Path) -> LogFile:
    return LogFile(tmp_path, cuts=request.param == "cut")


async def claim(node: Opened, count: int = 100, seconds: float | None = None, group: str = "g") -> list[Lease]:
    return await node.engine.claim("t", group, count=count, nbytes=1 << 30, seconds=seconds)


async def settle(node: Opened, action: Action, lease: Lease, seconds: float | None = None) -> Outcome:
    id = LeaseId(parse_id(lease.message.id), lease.attempt)
    (outcome,) = await node.engine.settle("t", "g", action, [id], seconds)
    return outcome


async def test_messages_ids_indexes_and_settings_stay(log_file: LogFile) -> None:
    async with log_file.open() as node:
        await append(node, "a", "1", "2", event="news", content_type="text/plain")
        await append(node, "b/c", "x" * 100_000, ttl=50.0)
        await append(node, "a", "passing", retain=False)
        await append(node, "c", "1", headers=b'{"title":"one"}')
        await append(node, "c", "2", ordering=make_ordering(3, "k"))
        await node.engine.configure("a", {"max_messages": 5, "max_age": 77.0})
        await node.engine.configure("empty", {"max_bytes": 9})
        before = await everything(node)
    async with log_file.open() as node:
        assert await everything(node) == before
        receipt = await append(node, "a", "3")
        assert (parse_id(receipt.id).seq, receipt.index) == (7, 3)
        assert node.engine.head == 6


async def test_a_group_goes_on_with_its_priorities_and_keys(log_file: LogFile) -> None:
    async with log_file.open() as node:
        await node.engine.configure_group("a", "g", {})
        for text, priority, key in (
            ("k1", 0, "k"),
            ("k2", 0, "k"),
            ("low", 0, None),
            ("mid", 2, None),
            ("top", 9, None),
        ):
            await append(node, "a", text, ordering=make_ordering(priority, key))
        top, mid, held = await node.engine.claim("a", "g", count=3, nbytes=1 << 20, seconds=None)
        await node.engine.settle("a", "g", Action.ACK, [parse_lease_id(top.id)], None)
        await node.engine.settle("a", "g", Action.NACK, [parse_lease_id(mid.id)], 0.0)
    async with log_file.open() as node:
        await append(node, "a", "high", ordering=make_ordering(5, None))
        leases = await node.engine.claim("a", "g", count=9, nbytes=1 << 20, seconds=None)
        assert [lease.message.data.decode() for lease in leases] == ["high", "mid", "low"]
        await node.engine.settle("a", "g", Action.ACK, [parse_lease_id(held.id)], None)
    async with log_file.open() as node:
        (lease,) = await node.engine.claim("a", "g", count=9, nbytes=1 << 20, seconds=None)
        assert lease.message.data == b"k2"


async def test_a_file_of_the_first_schema_is_served_as_it_was_and_copied(tmp_path: Path) -> None:
    """It had a row for each message."""
    log_file = LogFile(tmp_path)
    async with log_file.open() as node:
        for number in range(20):
            await append(
                node, "t", str(number), event="news" if number % 3 else None, ttl=99.0 if number == 5 else None
            )
        await append(node, "b", "for one", delivery=Delivery.ONE, ttl=99.0)
        await node.engine.configure_group("t", "g", {})
        await settle(node, Action.ACK, (await claim(node))[3])
        before = await everything(node)
    with closing(sqlite3.connect(log_file.path)) as db:
        assert db.execute("SELECT count(*) FROM message WHERE sizes IS NOT NULL").fetchone() == (0,)
        make_older(db, 1)
    assert backup(log_file.path, tmp_path / "copy.db", lambda _done, _total: None) == 21
    async with log_file.open() as node:
        assert await everything(node) == before
        await append(node, "t", *"abc")
        await node.engine.drop_group("t", "g")
        await node.engine.configure("t", {"max_messages": 5})
        await append(node, "t", "d")
        assert drafts_text((await page(node, "t")).messages) == ["19", "a", "b", "c", "d"]
    log_file.path = tmp_path / "copy.db"
    async with log_file.open() as node:
        assert (await everything(node))[1:] == before[1:]


def flattened(value: bytes) -> bytes:
    """What was noted of a delayed publish before there were envelopes."""
    note = msgspec.msgpack.decode(value)
    drafts = [
        {"data": body, "delay": draft["delay"], "key": draft["key"], **draft["envelope"]}
        for draft in note["drafts"]
        for body in draft["bodies"]
    ]
    return msgspec.msgpack.encode(note | {"drafts": drafts})


def without_ttl(value: bytes) -> bytes:
    """What was noted of the log when a ttl cost nothing, with three messages that have one."""
    note = msgspec.msgpack.decode(value)
    return msgspec.msgpack.encode(note | {"cost": note["cost"] - 3 * EXPIRY_COST})


async def test_what_was_delayed_before_there_were_envelopes_comes_when_it_is_due(log_file: LogFile) -> None:
    async with log_file.open() as node:
        await append(node, "a", "gone", ttl=5.0)
        node.clock.now += 6.0
        await append(node, "a", "1", ttl=900.0)
        its = {"event": "late", "ttl": 50.0, "content_type": "text/csv"}
        await node.engine.append([draft("a", b"2", b"3", delay=500.0, key="k", **its)])
        await node.engine.append([draft("a", b"4", delay=500.0)])
        cost = (await node.engine.totals()).cost
    with closing(sqlite3.connect(log_file.path)) as db, db:
        for function in (flattened, without_ttl):
            db.create_function(function.__name__, 1, function)
        db.execute("UPDATE note SET value = flattened(value) WHERE kind = 'delayed'")
        db.execute("UPDATE note SET value = without_ttl(value) WHERE kind = 'log'")
        make_older(db, 3)
    async with log_file.open() as node:
        assert (await node.engine.totals()).cost == cost
        log_file.clock.now += 500.0
        async with asyncio.timeout(DEADLINE):
            while len((await page(node, "a")).messages) < 4:
                await node.news.wait()
        messages = (await page(node, "a")).messages
        assert [(message.data, message.event, message.content_type) for message in messages[1:]] == [
            (b"2", "late", "text/csv"), (b"3", "late", "text/csv"), (b"4", None, TEXT),
        ]  # fmt: skip
        await node.engine.drop("a")
        assert (await node.engine.totals()).cost == 0


async def test_subscribers_start_where_they_would_have_and_get_the_same_gaps(log_file: LogFile) -> None:
    limits = Limits(Retention(max_messages=3), topic_idle=50.0)
    async with log_file.open(limits) as node:
        await append(node, "a", *"12345")
        await append(node, "dropped", *"12")
        await append(node, "idle", "1", ttl=1.0)
        node.clock.now += 10
        await append(node, "b", *"123")
        await node.engine.drop("dropped")
        epoch = node.engine.epoch
        starts: list[Start] = [
            EARLIEST, LATEST, Last(2), Ago(5.0), *(After(Id(epoch, seq)) for seq in range(13)), After(Id("other", 1)),
        ]  # fmt: skip
        before = await everything(node, starts)
        index = await page(node, "a", start=AfterIndex(3))
        gone = await page(node, "dropped", start=After(Id(epoch, 5)))
        assert gone.gap is not None
    async with log_file.open(limits) as node:
        assert await everything(node, starts) == before
        assert await page(node, "a", start=AfterIndex(3)) == index
        assert await page(node, "dropped", start=After(Id(epoch, 5))) == gone
        node.clock.now += 60
        with pytest.raises(NotFound):
            await node.engine.topic("idle")


async def test_retention_goes_on(log_file: LogFile) -> None:
    limits = Limits(Retention(max_messages=3, max_age=100.0))
    async with log_file.open(limits) as node:
        await append(node, "a", *"123")
        node.clock.now += 60
        await append(node, "b", "1")
    async with log_file.open(limits) as node:
        await append(node, "a", "4")
        assert drafts_text((await page(node, "a")).messages) == ["2", "3", "4"]
        node.clock.now += 50
        assert drafts_text((await page(node, "**")).messages) == ["1", "4"]
        node.clock.now += 1_000
        assert (await page(node, "**")).messages == []


async def test_a_topic_without_settings_of_its_own_takes_the_new_default(log_file: LogFile) -> None:
    async with log_file.open(Limits(Retention(max_messages=3))) as node:
        await append(node, "a", *"123")
        await append(node, "own", *"123")
        await node.engine.configure("own", {"max_messages": 2})
    async with log_file.open(Limits(Retention(max_messages=4))) as node:
        for topic in ("a", "own"):
            await append(node, topic, *"45")
        assert [state.messages for state in (await node.engine.topics(ListQuery())).items] == [4, 2]
    async with log_file.open(Limits(Retention(max_messages=1))) as node:  # also where nobody publishes
        assert [state.messages for state in (await node.engine.topics(ListQuery())).items] == [1, 2]


async def test_keys_are_remembered_for_their_time(log_file: LogFile) -> None:
    async with log_file.open() as node:
        first = await append(node, "a", "1", key="k")
        delayed = await node.engine.append([draft("a", b"late", key="d", delay=500.0)])
        node.clock.now += 100
    async with log_file.open() as node:
        again = await append(node, "a", "1", key="k")
        assert (again.id, again.index, again.duplicate) == (first.id, first.index, True)
        late = await node.engine.append([draft("a", b"late", key="d", delay=500.0)])
        assert isinstance(delayed, Scheduled)
        assert late == Scheduled(1, delayed.due, duplicate=True, id=delayed.id)
        node.clock.now += 30
        assert not (await append(node, "a", "1", key="k")).duplicate
        assert drafts_text((await page(node, "a")).messages) == ["1", "1"]


@pytest.mark.parametrize("version", [4, 5])
async def test_lines_come_back_as_they_were(log_file: LogFile, version: int) -> None:
    """Before version 5 a file had them whole."""
    lines = [b"{'command':'send', 'topic':'a', 'msg':'%b'}\n" % text for text in (b"one", b"two", b"it is \\n")]
    async with log_file.open() as node:
        for line in lines:
            sent = LITERAL.parse(line[:-1])
            assert isinstance(sent, Send)
            whole = msgspec.structs.replace(sent.envelope, line=line) if version < 5 else sent.envelope
            await node.engine.append([Draft(whole, [sent.data])])
    with closing(sqlite3.connect(log_file.path)) as db, db:
        assert db.execute("SELECT count(*) FROM message WHERE instr(line, x'00')").fetchone() == (
            0 if version < 5 else 2,
        )
        make_older(db, version)
    async with log_file.open() as node:
        messages = (await page(node, "a")).messages
        assert [*map(LITERAL.encoder.encode, messages)] == lines
        assert [message.data for message in messages] == [b"one", b"two", b"it is \n"]


async def test_delayed_messages_come_when_they_are_due(log_file: LogFile) -> None:
    async with log_file.open() as node:
        for delay in (30.0, 10.0, 20.0, 100.0):
            await node.engine.append([draft("a", f"{delay:.0f}".encode(), delay=delay)])
    log_file.clock.now += 40
    async with log_file.open() as node:
        await node.news.wait()
        assert drafts_text(node.delivered) == ["10", "20", "30"]
        node.clock.now += 60
        await append(node, "b", "now")
        assert drafts_text((await page(node, "**")).messages) == ["10", "20", "30", "100", "now"]
    async with log_file.open() as node:
        assert drafts_text((await page(node, "a")).messages) == ["10", "20", "30", "100"]
        assert node.delivered == []


async def test_what_waits_for_one_subscriber_waits_on(log_file: LogFile) -> None:
    async with log_file.open() as node:
        await append(node, "a", "1", "2", delivery=Delivery.ONE)
        assert drafts_text((await page(node, "a", start=LATEST, take=True)).messages) == ["1", "2"]
        await append(node, "a", "3", delivery=Delivery.ONE)
        node.takers = 1
        await append(node, "a", "4", delivery=Delivery.ONE)
        node.engine.taken([1])
        await node.engine.topics(ListQuery())
    async with log_file.open() as node:  # nobody knows who has had what
        assert drafts_text((await page(node, "a", start=LATEST, take=True)).messages) == ["2", "3", "4"]
        node.engine.taken([2, 3, 4])
        await node.engine.topics(ListQuery())
    async with log_file.open() as node:
        assert (await page(node, "a", take=True)).messages == []


async def test_a_ttl_ends_while_the_server_is_down(log_file: LogFile) -> None:
    async with log_file.open() as node:
        await append(node, "a", "short", ttl=10.0)
        await append(node, "a", "long", ttl=100.0)
    log_file.clock.now += 20
    async with log_file.open() as node:
        got = await page(node, "a", start=After(Id(node.engine.epoch, 0)))
        assert (drafts_text(got.messages), got.gap) == (["long"], None)
        node.clock.now += 90
        assert (await page(node, "a")).messages == []


async def test_delayed_messages_are_known_to_their_topic(log_file: LogFile) -> None:
    async with log_file.open() as node:
        await node.engine.append([draft("a", b"1", delay=500.0), draft("a", b"2", delay=500.0)])
    async with log_file.open() as node:
        assert (await node.engine.topic("a")).delayed == 2
        await node.engine.drop("a")
    async with log_file.open() as node:
        node.clock.now += 1_000
        await append(node, "b", "x")
        assert drafts_text(node.delivered) == ["x"]
        assert [state.topic for state in (await node.engine.topics(ListQuery())).items] == ["b"]


async def test_groups_go_on_with_their_leases_attempts_delays_and_counts(log_file: LogFile) -> None:
    async with log_file.open() as node:
        await append(node, "t", *"12345")
        await node.engine.configure_group("t", "g", {"ack_timeout": 30.0, "max_deliveries": 2})
        await node.engine.join("t", "untouched")
        done, failed, leased = await claim(node, 3)
        assert await settle(node, Action.ACK, done) is Outcome.DONE
        assert await settle(node, Action.NACK, failed, 20.0) is Outcome.DONE
        assert await settle(node, Action.EXTEND, leased, 60.0) is Outcome.DONE
        before = await everything(node)
    async with log_file.open() as node:
        assert await everything(node) == before
        assert await settle(node, Action.ACK, done) is Outcome.DONE
        assert await settle(node, Action.ACK, failed) is Outcome.EXPIRED
        assert [(lease.message.data, lease.attempt) for lease in await claim(node)] == [(b"4", 1), (b"5", 1)]
        node.clock.now += 20
        assert [(lease.message.data, lease.attempt) for lease in await claim(node)] == [(b"2", 2)]
        node.clock.now += 39
        assert await settle(node, Action.ACK, leased) is Outcome.DONE
        assert len(await claim(node, group="untouched")) == 5


async def test_a_dead_message_stays_dead_and_shows_its_history(log_file: LogFile) -> None:
    async with log_file.open() as node:
        await append(node, "t", *"12")
        await node.engine.configure_group("t", "g", {"max_deliveries": 1})
        (lease, _) = await claim(node)
        await settle(node, Action.NACK, lease)
        before = await everything(node)
        assert [message.death is not None for message in (await page(node, "t.dead")).messages] == [True]
    async with log_file.open() as node:
        assert await everything(node) == before
        assert await settle(node, Action.ACK, lease) is Outcome.EXPIRED
        node.clock.now += 30
        await claim(node)
        assert drafts_text((await page(node, "t.dead")).messages) == ["1", "2"]


async def test_what_is_dead_is_kept_after_a_restart_too_and_what_had_no_room_waits(log_file: LogFile) -> None:
    limits = Limits(Retention(max_messages=2, max_age=100.0))
    async with log_file.open(limits) as node:
        await node.engine.configure("t", {"max_messages": 3})
        await node.engine.configure_group("t", "g", {"max_deliveries": 1})
        await append(node, "t", *"123")
        for lease in await claim(node):
            await settle(node, Action.NACK, lease)
        before = unmetered(await node.engine.group("t", "g"))
        assert (before.dead, before.dead_letters) == (2, DeadLetterTopic(2, 2, 2, 8 << 20, 1))
    log_file.clock.now += 1_000
    async with log_file.open(limits) as node:
        assert unmetered(await node.engine.group("t", "g")) == before
        for topic in ("t", "t.dead"):
            with pytest.raises(LogFull):
                await append(node, topic, "1", "2", "3")
        assert drafts_text((await page(node, "t.dead")).messages) == ["1", "2"]
        await node.engine.join("t.dead", "g")
    async with log_file.open(limits) as node:
        one, _ = await node.engine.claim("t.dead", "g", count=9, nbytes=1 << 20, seconds=None)
        await node.engine.settle("t.dead", "g", Action.ACK, [lease_id(one)])
        node.clock.now += 10
        assert (await node.engine.group("t", "g")).dead_letters.waiting == 0
        assert drafts_text((await page(node, "t.dead")).messages) == ["2", "3"]
    async with log_file.open(limits) as node:
        assert drafts_text((await page(node, "t.dead")).messages) == ["2", "3"]
        await node.engine.drop_group("t.dead", "g")
        assert (await node.engine.group("t", "g")).dead_letters.kept == 2


async def test_the_dead_in_a_file_of_an_earlier_version_are_kept_and_its_groups_counted(tmp_path: Path) -> None:
    """It has no index of them, has not counted them as held, and groups cost nothing in it."""
    log_file, limits = LogFile(tmp_path), Limits(Retention(max_messages=2))
    async with log_file.open(limits) as node:
        await node.engine.configure_group("t", "g", {"max_deliveries": 1})
        await node.engine.configure_group("t.dead", "late", {}, ("latest", LATEST))
        await append(node, "t", "1")
        await settle(node, Action.NACK, (await claim(node))[0])
        await node.engine.drop_group("t.dead", "late")
        cost = (await node.engine.totals()).cost
    with closing(sqlite3.connect(log_file.path)) as db:
        (note,) = db.execute("SELECT value FROM note WHERE kind = 'topic' AND key = '[\"t.dead\"]'").fetchone()
        less = msgspec.msgpack.encode(msgspec.msgpack.decode(note) | {"held": 0, "held_bytes": 0})
        db.execute("UPDATE note SET value = ? WHERE kind = 'topic' AND key = '[\"t.dead\"]'", (less,))
        (note,) = db.execute("SELECT value FROM note WHERE kind = 'log'").fetchone()
        old = msgspec.msgpack.decode(note)
        less = msgspec.msgpack.encode(old | {"cost": old["cost"] - GROUP_COST})
        db.execute("UPDATE note SET value = ? WHERE kind = 'log'", (less,))
        db.commit()
        db.execute("DROP INDEX message_dead")
        make_older(db, 6)
    async with log_file.open(limits) as node:
        assert (await node.engine.totals()).cost == cost
        await append(node, "t.dead", *"abc")
        assert drafts_text((await page(node, "t.dead")).messages) == ["1", "c"]
        assert (await node.engine.group("t", "g")).dead_letters.kept == 1


async def test_a_gap_is_reported_after_a_restart_too_until_a_message_was_handed_out(log_file: LogFile) -> None:
    async with log_file.open(Limits(Retention(max_messages=1))) as node:
        await append(node, "t", *"123")
        made = await node.engine.join("t", "g")
        assert made is not None
        assert made.missed == 2
    async with log_file.open() as node:
        assert await node.engine.join("t", "g") == made
        await claim(node)
    async with log_file.open() as node:
        assert await node.engine.join("t", "g") is None
        assert (await node.engine.group("t", "g")).gap == made
        await node.engine.seek("t", "g", ("an id", After(Id(node.engine.epoch, 1))))
    async with log_file.open() as node:
        again = await node.engine.join("t", "g")
        assert again is not None
        assert again.requested.endswith("-1")


async def test_dead_letters_do_not_lead_in_a_circle_after_a_restart_either(log_file: LogFile) -> None:
    async with log_file.open() as node:
        await node.engine.configure_group("a", "g", {"dead_letter": "b"})
    async with log_file.open() as node:
        with pytest.raises(OptionInvalid):
            await node.engine.configure_group("b", "g", {"dead_letter": "a"})
        await node.engine.configure_group("b", "g", {"dead_letter": "c"})
    async with log_file.open() as node:
        with pytest.raises(OptionInvalid):
            await node.engine.configure_group("c", "g", {"dead_letter": "a"})


async def test_a_lease_that_ends_while_the_server_is_down_is_another_attempt(log_file: LogFile) -> None:
    async with log_file.open() as node:
        await append(node, "t", "1")
        await node.engine.join("t", "g")
        await claim(node, seconds=10.0)
    log_file.clock.now += 11
    async with log_file.open() as node:
        await node.news.wait()
        assert node.readied[-1] == ("t", "g")
        assert [lease.attempt for lease in await claim(node)] == [2]


async def test_what_a_group_has_not_acked_is_held(log_file: LogFile) -> None:
    limits = Limits(Retention(max_messages=3))
    async with log_file.open(limits) as node:
        await append(node, "t", *"123")
        await node.engine.join("t", "g")
        (first, second) = await claim(node, 2)
    async with log_file.open(limits) as node:
        with pytest.raises(LogFull):
            await append(node, "t", "4")
        assert await settle(node, Action.ACK, second) is Outcome.DONE
        await append(node, "t", "4")
        assert drafts_text((await page(node, "t")).messages) == ["1", "3", "4"]
        assert await settle(node, Action.ACK, first) is Outcome.DONE


async def test_a_message_whose_ttl_ends_under_a_lease_leaves_nothing_in_the_group(log_file: LogFile) -> None:
    async with log_file.open() as node:
        await append(node, "t", "1", ttl=10.0)
        await node.engine.join("t", "g")
        await claim(node)
        node.clock.now += 11
        assert await node.engine.get(Id(node.engine.epoch, 1)) is None  # a mere look, after which everything ends
    async with log_file.open() as node:
        state = await node.engine.group("t", "g")
        assert (state.lag, state.oldest) == (0, None)


async def test_deleted_topics_and_groups_stay_deleted(log_file: LogFile) -> None:
    async with log_file.open() as node:
        for topic in ("t", "u"):
            await append(node, topic, *"123")
            await node.engine.join(topic, "g")
            await node.engine.claim(topic, "g", count=2, nbytes=1 << 30, seconds=None)
        await node.engine.drop_group("t", "g")
        await node.engine.drop("u")
    async with log_file.open() as node:
        with pytest.raises(NotFound):
            await node.engine.group("t", "g")
        with pytest.raises(NotFound):
            await node.engine.topic("u")
        await node.engine.join("t", "g")
        assert [lease.attempt for lease in await claim(node)] == [1, 1, 1]
        assert (await append(node, "u", "1")).index == 0


async def test_the_keys_of_a_deleted_topic_are_gone_after_a_restart_too(log_file: LogFile) -> None:
    async with log_file.open() as node:
        first = await append(node, "a", "1", key="k")
    async with log_file.open() as node:
        await node.engine.drop("a")
    async with log_file.open() as node:
        new = await append(node, "a", "1", key="k")
        assert (new.duplicate, new.index, new.id != first.id) == (False, 0, True)


async def test_the_clock_does_not_step_back_behind_what_was_accepted(log_file: LogFile) -> None:
    async with log_file.open() as node:
        await append(node, "a", "1")
    log_file.clock.now -= 1_000
    async with log_file.open() as node:
        await append(node, "a", "2")
        first, second = (await page(node, "a")).messages
        assert second.time >= first.time
        assert drafts_text((await page(node, "a", start=Ago(1.0))).messages) == ["1", "2"]


async def test_an_iteration_in_the_middle_goes_on_with_its_cursor(log_file: LogFile) -> None:
    topic_filter = TopicFilter(["**"])
    async with log_file.open() as node:
        await append(node, "a", *"1234")
        cursor = await node.engine.locate(topic_filter, EARLIEST)
        first = await node.engine.read(topic_filter, cursor, limit=2, nbytes=1 << 30, take=False)
    async with log_file.open() as node:
        await append(node, "b", "5")
        rest = await node.engine.read(topic_filter, first.cursor, limit=9, nbytes=1 << 30, take=False)
        assert (drafts_text(rest.messages), rest.gap) == (["3", "4", "5"], None)
