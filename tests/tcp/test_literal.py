"""The dialect of Python literals: a line arrives as it was sent."""

import ast
import tracemalloc
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Refused
from app.log.run import make_runs
from app.messages.control_characters import has_control_characters
from app.messages.message import Draft
from app.tcp.dialects.commands import Send
from app.tcp.dialects.detect import LITERAL, choose
from app.tcp.dialects.python_literals import MAX_LITERAL, PLAIN, evaluate
from tests.tcp.peer import DONE, Peer, Port, delivered, send, subscribe

SUBSCRIBE = "{'command':'subscribe', 'topic':'foo'}"


def literal(msg: object, more: str = "") -> str:
    return f"{{'command':'send', 'topic':'foo', 'msg':{msg!r}{more}}}"


async def reason(peer: Peer, line: str | bytes) -> str:
    """The reason for which the line is refused."""
    answer = await peer.ask(line)
    assert answer.endswith(b"}\n")
    value = ast.literal_eval(answer.decode())
    assert list(value) == ["success", "reason"]
    assert value["success"] is False
    text: str = value["reason"]
    assert text
    return text


@pytest.mark.parametrize(
    "line",
    [
        b"{'command':'send', 'topic':'foo', 'msg':'blah'}\n",
        b"{'command':'send', 'topic':'foo', 'msg':'blah'}\r\n",
        b"  {  'msg' : 'blah',\t'topic':\"foo\" ,'command':'send' , }  \n",
        "{'command':'send', 'topic':'foo', 'msg':'größe \U0001f600 \u2028'}\r\n".encode(),
        b"{'command':'send', 'topic':'foo', 'msg':'it\\'s \"quoted\" \\\\ \\n \\x00 \\d'}\n",
        b"{'command':'send', 'topic':'foo', 'msg':'''it's'''}\n",
        b"{'command':'send', 'topic':'foo', 'msg':b'\\xff\\x00'}\n",
        b"{u'command':u'send', u'topic':u'foo', u'msg':u'x'}\n",
        b"{'command':'send', 'topic':'foo', 'msg':[1, -2.5, None, {'a': (True, {3})}, 1+2j]}\n",
        b"{'command':'send', 'topic':'foo', 'msg':'a' 'b'}\n",
        b"{'command':'send', 'topic':'foo', 'msg':'x', 'delivery':'all', 'cache':True}\n",
    ],
)
async def test_every_subscriber_also_the_sender_gets_the_line_as_it_was_sent(
    peer: Peer, other: Peer, line: bytes
) -> None:
    for client in (peer, other):
        client.send(SUBSCRIBE)
        await client.assert_quiet()
    peer.send(line)
    assert await peer.line() == line
    assert await other.line() == line


async def test_success_has_no_reply(peer: Peer) -> None:
    peer.send(SUBSCRIBE, literal("x", ", 'cache':False").replace("foo", "bar"), literal("x").replace("foo", "bar"))
    await peer.assert_quiet()


async def test_a_last_line_without_lf_is_delivered_with_one(peer: Peer, other: Peer) -> None:
    other.send(SUBSCRIBE)
    await other.assert_quiet()
    peer.send(literal("x").encode())
    peer.writer.write_eof()
    assert await peer.rest() == b""
    assert await other.line() == literal("x").encode() + b"\n"


async def test_without_last_seen_only_new_messages_arrive(peer: Peer, other: Peer) -> None:
    other.send(literal("old"))
    await other.assert_quiet()
    peer.send(SUBSCRIBE)
    await peer.assert_quiet()
    other.send(literal("new"))
    assert await peer.line() == literal("new").encode() + b"\n"


@pytest.mark.parametrize("last_seen", [-1, 0, 2, 3, 4, 99])
async def test_last_seen_replays_newer_retained_lines(peer: Peer, other: Peer, keeps: int, last_seen: int) -> None:
    other.send(*(literal(index) for index in range(4)))
    await other.assert_quiet()
    peer.send(f"{{'command':'subscribe', 'topic':'foo', 'last_seen':{last_seen}}}")
    newer = range(min(max(last_seen + 1, 4 - keeps, 0), 4), 4)
    assert await peer.lines(len(newer)) == [literal(index).encode() + b"\n" for index in newer]
    await peer.assert_quiet()


async def test_a_message_for_one_waits_and_is_delivered_once(peer: Peer, other: Peer) -> None:
    line = literal("job", ", 'delivery':'one'")
    peer.send(line, SUBSCRIBE)
    assert await peer.line() == line.encode() + b"\n"
    other.send("{'command':'subscribe', 'topic':'foo', 'last_seen':-1}")
    await other.assert_quiet()


async def test_a_message_for_one_reaches_one_subscriber(port: Port, peer: Peer) -> None:
    async with port.peers(3) as subscribers:
        for subscriber in subscribers:
            subscriber.send(SUBSCRIBE)
            await subscriber.assert_quiet()
        lines = [literal(number, ", 'delivery':'one'") for number in range(50)]
        peer.send(*lines)
        await peer.assert_quiet()
        received = []
        for subscriber in subscribers:
            received += await subscriber.synchronise()
        assert sorted(received) == sorted(line.encode() + b"\n" for line in lines)


async def test_a_message_with_cache_false_is_not_replayed(peer: Peer) -> None:
    peer.send(literal("x", ", 'cache':False"), "{'command':'subscribe', 'topic':'foo', 'last_seen':-1}")
    await peer.assert_quiet()


@pytest.mark.parametrize(
    ("msg", "text"),
    [("'x'", "x"), ("b'x'", "x"), ("1", "1"), ("-1.50", "-1.5"), ("None", "None"), ("[1,'a']", "[1, 'a']"), ("''", "")],
)
async def test_any_literal_can_be_a_message(peer: Peer, other: Peer, msg: str, text: str) -> None:
    await other.do(subscribe("foo"))
    peer.send(f"{{'command':'send', 'topic':'foo', 'msg':{msg}}}")
    assert await other.line() == delivered("foo", text, 0)


async def test_a_message_from_another_dialect_looks_like_a_literal(peer: Peer, other: Peer) -> None:
    peer.send(SUBSCRIBE)
    await peer.assert_quiet()
    await other.do(send("foo", "it's"))
    assert await peer.line() == b"""{'command': 'send', 'topic': 'foo', 'msg': "it's"}\n"""


@pytest.mark.parametrize("quit", [b"quit\n", b"quit\r\n", b"  quit  \n", b"QUIT\n"])
async def test_quit_closes_without_a_reply(peer: Peer, quit: bytes) -> None:
    peer.send(b"\n\r\n  \n\t\n", quit, b"ping\n")
    assert await peer.rest() == b""


REFUSED = [
    "{'command':'send'}", "{'command':'subscribe'}", "{'topic':'foo'}", "{'a'}", "{'a':1}", "('a',)", "''", "'send'",
    "{'command':'nothing', 'topic':'foo'}", "{'command':'send', 'topic':'foo'}", "{'command':'send', 'msg':'x'}",
    "{'command':'send', 'topic':1, 'msg':'x'}", "{'command':'send', 'topic':b'foo', 'msg':'x'}",
    "{'command':'send', 'topic':'a b', 'msg':'x'}", "{'command':'send', 'topic':'*', 'msg':'x'}",
    "{'command':'send', 'topic':'', 'msg':'x'}", "{'command':'send', 'topic':None, 'msg':'x'}",
    literal("x", ", 'delivery':'none'"), literal("x", ", 'delivery':1"), literal("x", ", 'cache':1"),
    literal("x", ", 'extra':1"), literal("x", ", 1:1"), "{'command':'unsubscribe', 'topic':'foo'}",
    "{'command':'subscribe', 'topic':'foo', 'last_seen':'1'}",
    "{'command':'subscribe', 'topic':'foo', 'last_seen':True}",
    "{'command':'subscribe', 'topic':'foo', 'last_seen':None}", "{'command':'subscribe', 'topic':'foo', 'cache':True}",
    "{'command':'send', 'topic':'foo', 'msg':'\\ud800'}", "{'command':'send', 'topic':'\\ud800', 'msg':'x'}",
    "{'command':", "{'command'", "{'", "{'''", "('", "'", "{'a':1}}", "{'a':1} {'a':1}", "{'a':", "{'a' 1}", "b'",
    "{'command':'send', 'topic':'foo', 'msg':x}", "{'command':'send', 'topic':'foo', 'msg':open('x')}",
    "{'command':'send', 'topic':'foo', 'msg':f'{1}'}", "{'command':'send', 'topic':'foo', 'msg':(lambda:1)}",
    "{'command':'send', 'topic':'foo', 'msg':[x for x in 'a']}", "{'a':1} # it", "{'a':1}\r{'a':1}",
    "{'command':'send', 'topic':'foo', 'msg':1*2}", "{'command':'send', 'topic':'foo', 'msg':{[]:1}}",
    "{'command':'send', 'topic':'foo', 'msg':{{}}}", "{'command':'send', 'topic':'foo', 'msg':'\\N{nothing}'}",
    "{'command':'send', 'topic':'foo', 'msg':'\\x1'}", "{'a':'\x00'}", "{'a':\x00}", "{'a':'\\", "{'a':1if 1else 2}",
]  # fmt: skip


@pytest.mark.parametrize("line", REFUSED)
async def test_a_refusal_is_one_line_and_the_connection_stays_open(peer: Peer, line: str) -> None:
    await reason(peer, line)
    await peer.assert_quiet()


async def test_a_line_that_is_not_utf8_is_refused(peer: Peer) -> None:
    assert await reason(peer, b"{'command':'send', 'topic':'foo', 'msg':'\xff'}\n") == "Could not decode input as UTF-8"


HOSTILE = {
    "nesting": "{'a':" + "[" * 60_000,
    "nested dicts": "{'a':" * 20_000,
    "signs": "{'a':" + "-" * 20_000 + "1}",
    "tildes": "{'a':" + "~" * 20_000 + "1}",
    "commas": "{'a':(" + "1," * 50_000 + ")}",
    "a huge number": "{'a':" + "9" * 100_000 + "}",
    "a huge number that is short enough": "{'command':'send', 'topic':'foo', 'msg':" + "9" * 8_000 + "}",
    "a huge hexadecimal number": "{'command':'send', 'topic':'foo', 'msg':0x" + "f" * 8_000 + "}",
    "a power": "{'a':9**9**9**9}",
    "strings": "{'a':" + "''" * 60_000 + "}",
    "escaped quotes": "{'a':" + "\\'" * 60_000,
    "quotes after backslashes": "{'a':" + "'\\" * 60_000,
    "quotes of both kinds": "{'" + "\"'" * 60_000,
    "triple quotes": "{'''" + "\"\"\"'''" * 20_000,
    "triple quotes that do not end": "{'''" + "a'" * 60_000,
    "hidden behind a triple quote": "{'''a'b'''" + "[" * 60_000 + "''",
    "hidden in a format string": "{'a':f'{" + "-" * 60_000 + "1}'}",
    "hidden behind a comment": "{'a':1} #'\r" + "[" * 60_000 + "'",
    "names": "{'a':" + "not " * 30_000 + "1}",
    "lambdas": "{'a':" + "lambda:" * 15_000 + "1}",
    "numbers": "{'a':" + "1 " * 60_000 + "}",
    "dots": "{'a':" + "." * 60_000 + "}",
    "colons": "{'a':" + ":" * 60_000 + "}",
    "lines that go on": "{'a':" + "\\" * 60_000 + "}",
    "too long": "{'a':'" + "x" * MAX_LITERAL + "'}",
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_line_costs_one_answer(peer: Peer, line: str) -> None:
    assert len(await reason(peer, line)) < 300
    await peer.assert_quiet()


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_line_costs_a_few_megabytes(line: str) -> None:
    encoded = line.encode()
    assert choose(encoded) is LITERAL
    tracemalloc.start()
    try:
        with pytest.raises(Refused):
            LITERAL.parse(encoded)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_warnings_of_pythons_parser_are_suppressed() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        LITERAL.parse(rb"{'command':'send', 'topic':'foo', 'msg':'\d'}")
    assert not caught


@pytest.mark.parametrize(("commas", "nesting"), [(230, 0), (0, 6)])
async def test_a_message_may_have_structure(peer: Peer, other: Peer, commas: int, nesting: int) -> None:
    msg = [[0] * commas] if commas else eval("[" * nesting + "]" * nesting)
    other.send(SUBSCRIBE)
    await other.assert_quiet()
    peer.send(literal(msg))
    assert await other.line() == literal(msg).encode() + b"\n"


async def test_a_long_line_within_the_limit_is_delivered(peer: Peer) -> None:
    text = ("x" * 100 + "'\"\\\n") * 1_000
    peer.send(SUBSCRIBE, literal(text))
    assert await peer.line() == literal(text).encode() + b"\n"


async def test_the_reply_is_in_the_dialect_of_the_line(peer: Peer) -> None:
    assert await peer.ask(subscribe("foo")) == DONE
    await reason(peer, "{'nothing'}")
    assert (await peer.ask("nothing")).startswith(b"ERR ")


PIECES = [
    "'",
    "''",
    "'''",
    '"',
    "\\",
    "\\'",
    "\\n",
    "{",
    "}",
    ":",
    ",",
    " ",
    ", ",
    ": ",
    "'a'",
    "x",
    "ü",
    "\t",
    "\x00",
    "\x0c",
    "b",
    "1",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_fast_path_reads_what_python_reads(inner: str) -> None:
    """Pairs of plain strings, as in most lines, are not parsed by Python's parser."""
    line = f"{{'a': 'b', {inner}}}"
    try:
        value = evaluate(line.encode())
    except Refused:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert value == ast.literal_eval(line)


@given(
    st.sampled_from(
        ["'topic':'foo', 'msg':'", "'topic': 'foo', 'msg': '", "'msg':'x', 'topic':'", "'msg':'a', 'msg' :'"]
    ),
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
)
def test_a_line_with_a_cached_head_means_what_python_reads(beginning: str, inner: str) -> None:
    line = f"{{'command':'send', {beginning}{inner}'}}".encode()
    try:
        sent = LITERAL.parse(line)
    except Refused:
        return
    assert isinstance(sent, Send)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = ast.literal_eval(line.decode())
    assert (sent.envelope.topic, sent.data.decode()) == (value["topic"], value["msg"])
    (run,) = make_runs(Draft(sent.envelope, [sent.data]), "k", 1, 0, 0.0)
    expected = repr(value).encode() if has_control_characters(line) else line
    assert [*map(LITERAL.encoder.encode, run.messages)] == [expected + b"\n"]


def test_lines_that_differ_only_in_their_message_share_an_envelope() -> None:
    one, two = (LITERAL.parse(literal(msg).encode()) for msg in ("größe", "x" * 1_000))
    assert isinstance(one, Send)
    assert isinstance(two, Send)
    assert one.envelope is two.envelope


def test_most_lines_take_the_fast_path() -> None:
    for line in ("{'command': 'send', 'topic': 'foo', 'msg': 'it is ü'}", "{'command':'subscribe', 'topic':'foo'}"):
        assert PLAIN.fullmatch(line)
