"""Consumer groups on the line port, from outside: consumers share the messages of a topic, from any endpoint."""

import socket
import struct
from signal import SIGTERM

import pytest

from tests.harness import DEADLINE, ServerProcess, http_client, start_server
from tests.tcp.peer import DONE, MALFORMED, Peer, connect

EXPIRED = b'{"success": false, "reason": "expired"}\r\n'
UNKNOWN = b'{"success": false, "reason": "unknown"}\r\n'


def subscribe(topic: str, group: str = "g", more: str = "") -> str:
    return f'{{"command":"subscribe","topic":"{topic}","group":"{group}"{more}}}'


def unsubscribe(topic: str, group: str = "g") -> str:
    return f'{{"command":"unsubscribe","topic":"{topic}","group":"{group}"}}'


def settle(action: str, topic: str, id: str, more: str = "", group: str = "g") -> str:
    return f'{{"command":"{action}","topic":"{topic}","group":"{group}","id":"{id}"{more}}}'


def job(topic: str, text: str, index: int, id: str, attempt: int = 1) -> bytes:
    keys = f'"command":"send","topic":"{topic}","msg":"{text}","delivery":"all","index":{index}'
    return f'{{{keys},"id":"{id}","attempt":{attempt}}}\r\n'.encode()


def job_line(topic: str, text: str, id: str, attempt: int = 1) -> bytes:
    """The same for a consumer in the text dialect."""
    return f"JOB {topic} {id}-{attempt} {text}\r\n".encode()


async def publish(peer: Peer, topic: str, *texts: str) -> list[str]:
    """Returns the ids."""
    return [(await peer.ask(f"pub {topic} {text}")).split()[1].decode() for text in texts]


# JSON


async def test_a_consumer_gets_the_send_object_with_id_and_attempt(peer: Peer, other: Peer, topic: str) -> None:
    (a,) = await publish(other, topic, "a")
    assert await peer.ask(subscribe(topic)) == DONE
    assert await peer.line() == job(topic, "a", 0, a)
    (b,) = await publish(other, topic, "b")
    assert await peer.line() == job(topic, "b", 1, b)


async def test_a_group_begins_with_the_retained_messages(peer: Peer, topic: str, keeps: int) -> None:
    ids = await publish(peer, topic, "a", "b", "c")
    peer.send(subscribe(topic))
    expected = [job(topic, text, index, ids[index]) for index, text in enumerate("abc")][-keeps:]
    assert await peer.lines(1 + len(expected)) == [DONE, *expected]
    await peer.assert_quiet()


async def test_work_on_a_missing_topic_creates_it_and_waits(peer: Peer, other: Peer, topic: str) -> None:
    assert await peer.ask(subscribe(topic)) == DONE
    (id,) = await publish(other, topic, "a")
    assert await peer.lines(1) == [job(topic, "a", 0, id)]


async def test_each_message_goes_to_one_consumer_of_each_group(peer: Peer, other: Peer, topic: str) -> None:
    ids = await publish(peer, topic, "a", "b")
    one, two = job(topic, "a", 0, ids[0]), job(topic, "b", 1, ids[1])
    peer.send(subscribe(topic, more=',"credit":1'))
    assert await peer.lines(2) == [DONE, one]
    other.send(subscribe(topic))
    assert await other.lines(2) == [DONE, two]
    other.send(subscribe(topic, "h"))
    assert await other.lines(3) == [DONE, one, two]
    await peer.assert_quiet()


async def test_subscribers_get_every_message_beside_consumers_also_on_one_connection(peer: Peer, topic: str) -> None:
    await peer.do(f'{{"command":"subscribe","topic":"{topic}"}}')
    (id,) = await publish(peer, topic, "a")
    sent = job(topic, "a", 0, id)
    assert await peer.line() == sent.replace(f',"id":"{id}","attempt":1'.encode(), b"")
    peer.send(subscribe(topic))
    assert await peer.lines(2) == [DONE, sent]
    await peer.assert_quiet()


async def test_at_most_credit_messages_are_leased_at_a_time(peer: Peer, other: Peer, topic: str) -> None:
    a, b = await publish(other, topic, "a", "b")
    peer.send(subscribe(topic, more=',"credit":1'))
    assert await peer.lines(2) == [DONE, job(topic, "a", 0, a)]
    await peer.assert_quiet()
    peer.send(settle("ack", topic, a))
    assert await peer.lines(2) == [DONE, job(topic, "b", 1, b)]
    await peer.assert_quiet()
    await other.do(settle("ack", topic, b))
    (c,) = await publish(other, topic, "c")
    assert await peer.line() == job(topic, "c", 2, c)


@pytest.mark.parametrize("reset", [False, True])
async def test_the_leases_of_a_lost_consumer_go_to_another_at_once(
    server: ServerProcess, peer: Peer, topic: str, reset: bool
) -> None:
    a, b = await publish(peer, topic, "a", "b")
    async with connect(server.tcp_port) as lost:
        lost.send(subscribe(topic))
        assert await lost.lines(3) == [DONE, job(topic, "a", 0, a), job(topic, "b", 1, b)]
        await peer.do(subscribe(topic))
        await peer.assert_quiet()
        if reset:
            linger = struct.pack("ii", 1, 0)
            lost.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    assert await peer.lines(2) == [job(topic, "a", 0, a, 2), job(topic, "b", 1, b, 2)]


async def test_unsubscribe_returns_the_leases_of_the_consumer_and_ends_nothing_else(
    peer: Peer, other: Peer, topic: str
) -> None:
    (a,) = await publish(other, topic, "a")
    await peer.do(f'{{"command":"subscribe","topic":"{topic}","cache":false}}')
    peer.send(subscribe(topic))
    assert await peer.lines(2) == [DONE, job(topic, "a", 0, a)]
    await other.do(subscribe(topic))
    await peer.do(unsubscribe(topic), unsubscribe(topic), unsubscribe(topic, "never"))
    assert await other.line() == job(topic, "a", 0, a, 2)
    (b,) = await publish(other, topic, "b")
    assert await other.line() == job(topic, "b", 1, b)
    assert b'"index":1}' in await peer.line()
    await peer.assert_quiet()


async def test_ending_a_subscription_keeps_the_consumer_of_the_topic(peer: Peer, topic: str) -> None:
    await publish(peer, topic, "a")
    peer.send(subscribe(topic), f'{{"command":"unsubscribe","topic":"{topic}"}}')
    await peer.lines(3)
    (b,) = await publish(peer, topic, "b")
    assert await peer.line() == job(topic, "b", 1, b)


async def test_a_second_subscribe_replaces_the_first(peer: Peer, topic: str) -> None:
    (a,) = await publish(peer, topic, "a")
    peer.send(subscribe(topic))
    assert await peer.lines(2) == [DONE, job(topic, "a", 0, a)]
    peer.send(f"work {topic} g 2")
    assert await peer.lines(2) == [f"OK working on {topic} as g\r\n".encode(), job_line(topic, "a", a, 2)]
    await peer.assert_quiet()


async def test_groups_get_only_retained_messages_for_all(peer: Peer, other: Peer, topic: str) -> None:
    send = f'{{"command":"send","topic":"{topic}","msg":"x","delivery":'
    await other.do(send + '"all"}')
    await peer.ask(subscribe(topic))
    await peer.line()
    await other.do(send + '"one"}', send + '"all","cache":false}')
    await peer.assert_quiet()


# Settling


async def test_an_ack_ends_the_lease_and_may_be_repeated(peer: Peer, other: Peer, topic: str) -> None:
    (a,) = await publish(peer, topic, "a")
    peer.send(subscribe(topic))
    await peer.lines(2)
    await peer.do(settle("ack", topic, a), settle("ack", topic, a), settle("ack", topic, f"{a}-1"))
    await other.do(subscribe(topic))
    await other.assert_quiet()
    assert await peer.ask(settle("nack", topic, a)) == EXPIRED
    assert await peer.ask(settle("extend", topic, a)) == EXPIRED


async def test_any_client_may_settle_with_either_id(peer: Peer, other: Peer, topic: str) -> None:
    a, b = await publish(peer, topic, "a", "b")
    peer.send(subscribe(topic))
    await peer.lines(3)
    await other.do(settle("ack", topic, a), settle("ack", topic, f"{b}-1"))
    await peer.do(unsubscribe(topic))
    await other.do(subscribe(topic))
    await other.assert_quiet()


@pytest.mark.parametrize("more", ["", ',"delay":"0"'])
async def test_a_nacked_message_is_handed_out_again(peer: Peer, topic: str, more: str) -> None:
    (a,) = await publish(peer, topic, "a")
    peer.send(subscribe(topic))
    await peer.lines(2)
    peer.send(settle("nack", topic, a, more))
    assert await peer.lines(2) == [DONE, job(topic, "a", 0, a, 2)]


async def test_an_expired_lease_cannot_settle_the_next(peer: Peer, topic: str) -> None:
    (a,) = await publish(peer, topic, "a")
    peer.send(subscribe(topic))
    await peer.lines(2)
    peer.send(settle("nack", topic, a))
    assert await peer.lines(2) == [DONE, job(topic, "a", 0, a, 2)]
    for action in ("ack", "nack", "extend"):
        assert await peer.ask(settle(action, topic, f"{a}-1")) == EXPIRED
    await peer.do(settle("ack", topic, f"{a}-2"))


async def test_a_nack_with_a_delay_holds_the_message_back(peer: Peer, other: Peer, topic: str) -> None:
    (a,) = await publish(peer, topic, "a")
    peer.send(subscribe(topic))
    await peer.lines(2)
    await peer.do(settle("nack", topic, a, ',"delay":"1h"'))
    await other.do(subscribe(topic))
    await peer.assert_quiet()
    await other.assert_quiet()
    for action in ("ack", "nack", "extend"):
        assert await peer.ask(settle(action, topic, a)) == EXPIRED


async def test_a_message_is_handed_out_again_when_its_lease_expires_unless_it_is_extended(
    peer: Peer, topic: str
) -> None:
    a, b = await publish(peer, topic, "a", "b")
    peer.send(subscribe(topic, more=',"lease":"1s"'))
    assert await peer.lines(3) == [DONE, job(topic, "a", 0, a), job(topic, "b", 1, b)]
    await peer.do(settle("extend", topic, a, ',"lease":"1h"'))
    assert await peer.line() == job(topic, "b", 1, b, 2)
    assert await peer.ask(settle("ack", topic, f"{b}-1")) == EXPIRED
    await peer.do(settle("ack", topic, f"{a}-1"))


async def test_a_message_nacked_ten_times_is_dead_lettered(peer: Peer, other: Peer, topic: str) -> None:
    (a,) = await publish(peer, topic, "a")
    await peer.do(subscribe(topic))
    for attempt in range(1, 11):
        assert await peer.line() == job(topic, "a", 0, a, attempt)
        await other.do(settle("nack", topic, a, ',"delay":"0"'))
    await peer.assert_quiet()
    assert await peer.ask(settle("ack", topic, a)) == EXPIRED
    await other.do(f'{{"command":"subscribe","topic":"{topic}.dead"}}')
    assert b'"msg":"a"' in await other.line()


@pytest.mark.parametrize("action", ["ack", "nack", "extend"])
async def test_a_message_that_the_group_never_handed_out_is_unknown(
    peer: Peer, other: Peer, topic: str, action: str
) -> None:
    a, b = await publish(peer, topic, "a", "b")
    (elsewhere,) = await publish(peer, f"{topic}.b", "x")
    peer.send(subscribe(topic, more=',"credit":1'))
    assert await peer.lines(2) == [DONE, job(topic, "a", 0, a)]
    for id in (b, f"{b}-1", elsewhere, "other-1", f"{a.split('-')[0]}-999999999"):
        assert await peer.ask(settle(action, topic, id)) == UNKNOWN
    await other.do(settle("ack", topic, a))


async def test_a_missing_group_is_reported_in_a_sentence(peer: Peer, topic: str) -> None:
    (a,) = await publish(peer, topic, "a")
    for action in ("ack", "nack", "extend"):
        answer = await peer.ask(settle(action, topic, a))
        assert answer == f'{{"success": false, "reason": "topic \'{topic}\' has no group \'g\'"}}\r\n'.encode()
        answer = await peer.ask(f"{action} {topic}.b g {a}")
        assert answer == f"ERR not_found there is no topic '{topic}.b'\r\n".encode()


@pytest.mark.parametrize(
    "line",
    [
        subscribe("foo", more=',"last_seen":3'),
        subscribe("foo", more=',"cache":true'),
        subscribe("foo", more=',"cache":false'),
        subscribe("foo", more=',"credit":0'),
        subscribe("foo", more=',"credit":101'),
        subscribe("foo", more=',"credit":"1"'),
        subscribe("foo", more=',"credit":1.5'),
        subscribe("foo", more=',"credit":null'),
        subscribe("foo", more=',"lease":30'),
        subscribe("foo", more=',"lease":"30"'),
        subscribe("foo", more=',"lease":"0"'),
        subscribe("foo", more=',"lease":"61m"'),
        subscribe("foo", more=',"more":1'),
        subscribe("foo", ""),
        subscribe("foo", ".g"),
        subscribe("foo", "a b"),
        subscribe("foo", "g" * 129),
        subscribe("foo.*"),
        subscribe("a b"),
        '{"command":"subscribe","topic":"foo","group":null}',
        '{"command":"subscribe","topic":"foo","group":7}',
        '{"command":"subscribe","topic":"foo","credit":10}',
        '{"command":"subscribe","topic":"foo","lease":"30s"}',
        unsubscribe("foo", ""),
        unsubscribe("foo.*"),
        settle("ack", "foo", "7"),
        settle("ack", "foo", ""),
        settle("ack", "foo", "k3-1-0"),
        settle("ack", "foo", "k3-1", ',"delay":"1s"'),
        settle("ack", "foo", "k3-1", ',"lease":"1s"'),
        settle("ack", "foo", "k3-1", group=""),
        settle("ack", "a..b", "k3-1"),
        settle("nack", "foo", "k3-1", ',"lease":"1s"'),
        settle("nack", "foo", "k3-1", ',"delay":1'),
        settle("nack", "foo", "k3-1", ',"delay":"-1s"'),
        settle("nack", "foo", "k3-1", ',"delay":"25h"'),
        settle("extend", "foo", "k3-1", ',"delay":"1s"'),
        settle("extend", "foo", "k3-1", ',"lease":"0s"'),
        settle("extend", "foo", "k3-1", ',"lease":"2h"'),
        '{"command":"ack","topic":"foo","group":"g"}',
        '{"command":"ack","topic":"foo","id":"k3-1"}',
        '{"command":"ack","group":"g","id":"k3-1"}',
        '{"command":"ack","topic":"foo","group":"g","id":["k3-1"]}',
        '{"command":"return","topic":"foo","group":"g","id":"k3-1"}',
    ],
)
async def test_a_line_with_wrong_keys_or_values_is_malformed(peer: Peer, line: str) -> None:
    assert await peer.ask(line) == MALFORMED
    await peer.assert_quiet()


async def test_literals_have_no_groups(peer: Peer, topic: str) -> None:
    answer = await peer.ask(f"{{'command':'subscribe', 'topic':'{topic}', 'group':'g'}}")
    assert answer.startswith(b"{'success': False, 'reason': ")
    assert b"group" in answer
    assert (await peer.ask(f"{{'command':'ack', 'topic':'{topic}', 'group':'g', 'id':'k3-1'}}")).startswith(
        b"{'success': False, 'reason': "
    )


# Text


async def test_in_text_one_job_comes_at_a_time(peer: Peer, other: Peer, topic: str) -> None:
    a, b = await publish(other, topic, "a", "b\tc")
    peer.send(f"work {topic} g")
    assert await peer.lines(2) == [f"OK working on {topic} as g\r\n".encode(), job_line(topic, "a", a)]
    await peer.assert_quiet()
    peer.send(f"ack {topic} g {a}-1")
    assert await peer.lines(2) == [b"OK done\r\n", job_line(topic, "b\\tc", b)]
    assert await peer.ask(f"ACK {topic} g {a}") == b"OK done\r\n"
    assert await peer.ask(f"unsub {topic} g") == f"OK unsubscribed from {topic} as g\r\n".encode()
    await other.do(subscribe(topic))
    assert await other.line() == job(topic, "b\\tc", 1, b, 2)


async def test_text_has_nack_and_extend_too(peer: Peer, topic: str) -> None:
    a, b = await publish(peer, topic, "a", "b")
    peer.send(f"work {topic} g 2")
    await peer.lines(3)
    peer.send(f"nack {topic} g {a}")
    assert await peer.lines(2) == [b"OK done\r\n", job_line(topic, "a", a, 2)]
    assert await peer.ask(f"extend {topic} g {a}") == b"OK done\r\n"
    assert await peer.ask(f"extend {topic} g {a}-2 1h") == b"OK done\r\n"
    assert await peer.ask(f"nack {topic} g {b} 1d") == b"OK done\r\n"
    over = f"ERR lease_expired the lease of {b}-1 is over: nothing was changed\r\n"
    assert await peer.ask(f"ack {topic} g {b}-1") == over.encode()
    never = f"ERR not_found group 'g' of '{topic}' has handed out no message other-1 that is still retained\r\n"
    assert await peer.ask(f"ack {topic} g other-1") == never.encode()


# An operator


async def test_an_operator_finds_a_dead_job_and_puts_it_back(peer: Peer, server: ServerProcess, topic: str) -> None:
    (id,) = await publish(peer, topic, "wash \\t up")
    async with http_client(server.url) as http:
        await http.put(f"/topics/{topic}/groups/g", json={"max_deliveries": 1})
        await http.post(f"/topics/{topic}/groups/g/pull")
    await peer.ask(f"nack {topic} g {id} no\u202ewater")
    assert await peer.ask(f"nack {topic} g {id} no water") == b"OK done\r\n"
    peer.send(f"jobs {topic} g dead")
    title, shown = await peer.lines(2)
    assert title == b"OK jobs=1\r\n"
    state, letter, rest = shown.decode().split(" ", 2)
    assert (state, rest) == ("DEAD", 'reason="no water" wash \\\\t up\r\n')
    assert await peer.ask(f"redrive {topic} g {letter} other-1") == b"OK redriven=1 left=0\r\n"
    assert await peer.ask(f"redrive {topic} g all") == b"OK redriven=0 left=0\r\n"
    peer.send(f"jobs {topic} g")
    title, shown = await peer.lines(2)
    assert (title, shown.split()[0], shown.split()[2]) == (b"OK jobs=1\r\n", b"READY", b"attempt=0")


async def test_an_operator_pauses_a_topic(peer: Peer, topic: str) -> None:
    await publish(peer, topic, "a")
    assert await peer.ask(f"pause {topic}") == b"OK paused\r\n"
    assert (await peer.ask(f"pub {topic} b")).startswith(b"ERR topic_paused ")
    assert await peer.ask(f"resume {topic}") == b"OK resumed\r\n"
    await publish(peer, topic, "b")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "nack"),
        ("1ms", "nack"),
        ("printer on fire", "printer on fire"),
        ("1ms printer  on fire", "printer  on fire"),
        ("0 5 of them", "5 of them"),
        (',"reason":"printer on fire"', "printer on fire"),
        (',"delay":"0","reason":"p\u00e9n"', "p\u00e9n"),
    ],
)
async def test_a_nack_says_why_in_every_dialect(
    peer: Peer, server: ServerProcess, topic: str, said: str, reason: str
) -> None:
    """The message is dead after its first attempt, and its record has the reason."""
    async with http_client(server.url) as http:
        await http.put(f"/topics/{topic}/groups/g", json={"max_deliveries": 1})
        (a,) = await publish(peer, topic, "a")
        await http.post(f"/topics/{topic}/groups/g/pull")
        answer = await peer.ask(settle("nack", topic, a, said) if said[:1] == "," else f"nack {topic} g {a} {said}")
        assert answer in {DONE, b"OK done\r\n"}
        (dead,) = (await http.get(f"/topics/{topic}.dead/messages")).json()["messages"]
        assert dead["dead"]["reason"] == reason


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("work foo", "bad_arguments expected: work TOPIC GROUP [credit]"),
        ("work foo g 1 2", "bad_arguments expected: work TOPIC GROUP [credit]"),
        ("work foo g 0", "option_invalid '0' is not a credit: expected a whole number from 1 to 100"),
        ("work foo g 101", "option_invalid '101' is not a credit: expected a whole number from 1 to 100"),
        ("work foo g \u0661", "option_invalid '\\u0661' is not a credit: expected a whole number from 1 to 100"),
        (
            "work foo -",
            "group_invalid '-' is not the name of a group: expected 1 to 128 letters, digits, '_', '-', '.', '~', "
            "the first one a letter, a digit or '_'",
        ),
        (
            "work foo.* g",
            "topic_invalid 'foo.*' is not a topic: expected printable ASCII without spaces, in segments separated by "
            "'.' or '/', none of them empty, without '*'",
        ),
        ("ack foo g", "bad_arguments expected: ack TOPIC GROUP ID"),
        ("ack foo g k3-1 1s", "bad_arguments expected: ack TOPIC GROUP ID"),
        (
            "ack foo g 1",
            "option_invalid '1' is not the id of a message or a lease: expected one such as k3f9a2-42 or k3f9a2-42-1",
        ),
        ("nack foo", "bad_arguments expected: nack TOPIC GROUP ID [delay] [reason...]"),
        ("nack foo g", "bad_arguments expected: nack TOPIC GROUP ID [delay] [reason...]"),
        (
            "nack foo g k3-1 5 of them",
            "option_invalid '5' is not a duration: expected a number and a unit, such as 500ms, 30s, 10m, 2h or 1d",
        ),
        (f"nack foo g k3-1 {'x' * 201}", "option_invalid a reason has 1 to 200 characters; this one has 201"),
        ("nack foo g k3-1 2d", "option_invalid a delay is at most 1d, not 2d"),
        ("jobs foo", "bad_arguments expected: jobs TOPIC GROUP [state]"),
        ("jobs foo g lost", "option_invalid 'lost' is not a state: expected ready, leased, delayed, dead"),
        ("jobs foo g", "not_found there is no topic 'foo'"),
        ("redrive foo g", "bad_arguments expected: redrive TOPIC GROUP ID..."),
        (
            "redrive foo g some",
            "option_invalid 'some' is not a message id: expected <epoch>-<number>, such as k3f9a2-42",
        ),
        ("release foo g", "bad_arguments expected: release TOPIC GROUP ID"),
        ("skip foo g k3-1", "not_found there is no topic 'foo'"),
        ("seek foo g", "bad_arguments expected: seek TOPIC GROUP POSITION"),
        ("pause", "bad_arguments expected: pause TOPIC [group]"),
        ("purge foo latest", "option_invalid 'latest': expected an id, a time or a duration such as 10m"),
        ("purge foo", "not_found there is no topic 'foo'"),
        ("extend foo g k3-1 2h", "option_invalid a lease lasts longer than 0 and at most 1h, not 2h"),
        ("extend foo g k3-1 0", "option_invalid a lease lasts longer than 0 and at most 1h, not 0"),
        (
            "extend foo g k3-1 soon",
            "option_invalid 'soon' is not a duration: expected a number and a unit, such as 500ms, 30s, 10m, 2h or 1d",
        ),
    ],
)
async def test_an_error_in_text_says_what_is_expected(peer: Peer, typed: str, answer: str) -> None:
    assert await peer.ask(typed) == f"ERR {answer}\r\n".encode()
    await peer.assert_quiet()


# Ends, and other endpoints


async def test_a_text_consumer_gets_bye_when_the_server_stops() -> None:
    with start_server() as server:
        async with connect(server.tcp_port) as person, connect(server.tcp_port) as program:
            (a,) = await publish(person, "foo", "a")
            person.send("work foo g")
            assert await person.lines(2) == [b"OK working on foo as g\r\n", job_line("foo", "a", a)]
            await program.do(subscribe("foo"))
            server.process.send_signal(SIGTERM)
            assert await person.rest() == b"BYE draining\r\n"
            assert await program.rest() == b""
        assert server.process.wait(DEADLINE) == 0


async def test_a_message_published_by_http_is_leased_on_the_line_port_and_acked_by_http(
    server: ServerProcess, peer: Peer, other: Peer, topic: str
) -> None:
    async with http_client(f"{server.url}/topics/{topic}") as http:
        id = (await http.post("/messages", content="a")).json()["id"]
        peer.send(subscribe(topic))
        assert await peer.lines(2) == [DONE, job(topic, "a", 0, id)]
        assert (await http.get("/groups/g")).json()["workers"] == 1
        answer = await http.post("/groups/g/ack", json={"ids": [id]})
        assert answer.json() == {"results": {id: "done"}}
        id = (await http.post("/messages", content="b")).json()["id"]
        assert await peer.line() == job(topic, "b", 1, id)
        await peer.do(unsubscribe(topic))
        (lease,) = (await http.post("/groups/g/pull")).json()["messages"]
        assert (lease["id"], lease["attempt"]) == (id, 2)
        await other.do(settle("ack", topic, lease["lease"]))
        assert (await http.get("/groups/g")).json()["lag"] == 0


async def test_deleting_a_group_ends_its_consumers(server: ServerProcess, peer: Peer, other: Peer, topic: str) -> None:
    (a,) = await publish(peer, topic, "a")
    peer.send(f"work {topic} g 1")
    await peer.lines(2)
    other.send(subscribe(topic))
    assert await other.line() == DONE
    async with http_client(server.url) as http:
        assert (await http.delete(f"/topics/{topic}/groups/g")).status_code == 204
    assert await peer.rest() == b"BYE deleted\r\n"
    assert await other.rest() == b""
    async with connect(server.tcp_port) as late:
        assert b"has no group" in await late.ask(settle("ack", topic, a))
