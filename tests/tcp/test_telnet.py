"""Telnet commands (RFC 854, 855, 885, 1184) are answered, and are removed from the lines."""

import asyncio
import os
import pty
import random
import re
import select
import shutil
import socket
import subprocess
import termios
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from app.tcp.echo import EchoSession
from app.tcp.telnet import MAX_COMMANDS, MAX_SUBNEGOTIATION, Telnet
from tests.harness import DEADLINE, ServerProcess, start_server
from tests.tcp.peer import PARSE, UTF8, Peer, Port, serving

IAC, SE, DM, IP, AO, AYT, EC, EL, SB = (bytes([code]) for code in (255, 240, 242, 244, 245, 246, 247, 248, 250))
WILL, WONT, DO, DONT = (bytes([code]) for code in (251, 252, 253, 254))
PUTTY = (  # its options: window size, speed, terminal type, environment, echo, go ahead
    b"\xff\xfb\x1f\xff\xfb\x20\xff\xfb\x18\xff\xfb\x27\xff\xfd\x01\xff\xfb\x03\xff\xfd\x03"
)
DECLINED = b"\xff\xfe\x1f\xff\xfe\x20\xff\xfe\x18\xff\xfe\x27\xff\xfc\x01\xff\xfe\x03\xff\xfc\x03"
PONG = b"OK pong\r\n"


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    async with serving() as port:
        yield port


async def test_the_first_line_of_putty_is_a_line_like_any_other(peer: Peer) -> None:
    peer.send(PUTTY + b"ping\r\n")
    assert await peer.reader.readexactly(len(DECLINED) + len(PONG)) == DECLINED + PONG


OPTIONS = sorted({*range(256)} - {*b"\r\n"})


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("verb", [WILL, WONT, DO, DONT])
async def test_a_line_in_latin_1_that_ends_like_a_negotiation_is_refused_as_a_whole(
    peer: Peer, verb: bytes, end: bytes
) -> None:
    """No character of it, and no line end, is taken for a telnet option, however the line arrives."""
    line = b"pub foo x" + IAC + verb + end
    for cut in range(8, len(line)):
        peer.send(line[:cut])
        peer.send(line[cut:] + b"ping\n")
        assert await peer.line() == b"ERR not_utf8 Could not decode input as UTF-8\r\n"
        assert await peer.line() == PONG


@pytest.mark.parametrize("verb", [WILL, DO])
async def test_every_option_is_declined_at_each_request(peer: Peer, verb: bytes) -> None:
    asked = b"".join(IAC + verb + bytes([option]) for option in OPTIONS)
    peer.send(asked, asked)
    answer = {WILL: DONT, DO: WONT}[verb]
    expected = b"".join(IAC + answer + bytes([option]) for option in OPTIONS)
    assert await peer.reader.readexactly(2 * len(expected)) == 2 * expected
    await peer.assert_quiet()


async def test_confirmations_get_no_answer_so_there_is_no_loop(peer: Peer) -> None:
    peer.send(b"".join(IAC + verb + bytes([option]) for verb in (WONT, DONT) for option in OPTIONS))
    await peer.assert_quiet()
    peer.send(IAC + DO + b"\x06")
    answer = await peer.reader.readexactly(3)
    peer.send(answer)  # as a client that echoes would
    await peer.assert_quiet()


async def test_are_you_there_is_answered(peer: Peer) -> None:
    assert await peer.ask(b"pi" + IAC + AYT) == PONG
    assert await peer.ask(b"ng\n") == PONG


def negotiations() -> Iterator[bytes]:
    """Commands that leave the text alone, and get no answer or one of three bytes."""
    yield from (IAC + bytes([code]) for code in range(0xEC, 0xFA) if bytes([code]) not in (AYT, EC, EL))
    yield from (IAC + verb + option for verb in (WILL, WONT, DO, DONT) for option in (b"\x00", b"\t", b"'", IAC))
    for inside in (b"", b"\x18\x00xterm", b"\x1f\x00\x50\x00\x0a", IAC + IAC + SE, b"x" * (MAX_SUBNEGOTIATION - 2)):
        yield IAC + SB + inside + IAC + SE


def _may_be_stray(command: bytes) -> bool:
    """A subnegotiation that is cut behind an LF is one, as far as the server can know."""
    return command.startswith(IAC + SB) and b"\n" in command


LINES = {
    b"pub foo f\xc3\xbc\xc3\xbf\n": b"OK ",
    b"{'command':'auth', 'token':'x'}\n": b"",
    b'{"command":"ping"}\n': b'{"success": true}\r\n',
    b"nonsense\r\n": b"ERR unknown_command ",
}


@pytest.mark.parametrize("line", LINES)
def test_negotiation_is_removed_at_any_place_and_in_any_pieces(line: bytes) -> None:
    for negotiation in negotiations():
        for position in range(len(line) + 1):
            whole = line[:position] + negotiation + line[position:]
            for cut in range(position, min(position + len(negotiation) + 1, position + 12)):
                if _may_be_stray(negotiation[: cut - position]):
                    continue
                telnet = Telnet()
                text = [telnet.feed(part, bytearray())[0] for part in (whole[:cut], whole[cut:])]
                assert (b"".join(text), telnet.partial) == (line, b""), (negotiation, position, cut)
            if _may_be_stray(negotiation):
                continue
            telnet = Telnet()
            assert b"".join(telnet.feed(whole[at : at + 1], bytearray())[0] for at in range(len(whole))) == line


@pytest.mark.parametrize("line", LINES)
async def test_lines_of_every_dialect_get_through_a_negotiation(peer: Peer, line: bytes) -> None:
    for position in range(len(line) + 1):
        peer.send(line[:position] + IAC + IP + IAC + WONT + b"\x06" + line[position:])
        if LINES[line]:
            assert (await peer.line()).startswith(LINES[line])
    await peer.assert_quiet()


ANSWERED = [
    b"ping\r\n", b"nonsense\n", b'{"command":"unsubscribe","topic":"f\xc3\xbc"}\n', b"pub \n", b"unsub a\r\n", b"{1\n",
]  # fmt: skip
"""Lines that always get the same reply, of one line."""


async def test_a_line_with_negotiation_gets_the_same_reply_as_without(port: Port) -> None:
    """Several commands at random places of the line, in random segments, also as the first bytes of a connection."""
    draw, commands = random.Random(14), [command for command in negotiations() if not _may_be_stray(command)]
    async with port.connect() as peer:
        plain = {line: await peer.ask(line) for line in ANSWERED}
        await peer.assert_quiet()
    for _ in range(20):
        async with port.connect() as peer:
            for _ in range(30):
                line = draw.choice(ANSWERED)
                noisy = with_commands(draw, commands, line)
                for part in cut_anywhere(draw, noisy):
                    peer.send(part)
                    await asyncio.sleep(0)
                peer.send("ping")
                assert await text_bytes(peer, len(plain[line] + PONG)) == plain[line] + PONG, (line, noisy)


def with_commands(draw: random.Random, commands: list[bytes], line: bytes) -> bytes:
    for position in sorted((draw.randrange(len(line) + 1) for _ in range(draw.randint(1, 4))), reverse=True):
        line = line[:position] + draw.choice(commands) + line[position:]
    return line


def cut_anywhere(draw: random.Random, data: bytes) -> Iterator[bytes]:
    cuts = [0, *sorted(draw.randrange(len(data) + 1) for _ in range(draw.randint(0, 3))), len(data)]
    return (data[start:end] for start, end in pairwise(cuts))


async def text_bytes(peer: Peer, nbytes: int) -> bytes:
    """So many bytes of text, without the answers to telnet commands."""
    received = b""
    async with asyncio.timeout(DEADLINE):
        while len(text := re.sub(rb"\xff[\xfc\xfe](?s:.)", b"", received)) < nbytes:
            received += await peer.reader.read(65_536)
    return text


@pytest.mark.parametrize(
    "line", [b"\xff\n", b"\xff\xff\n", b"\xff\xff\xf6\n", b"{'a\xff': 1}\n", b"\xffping\n", b"a \xff\xff\xfd\x01\n"]
)
async def test_an_iac_without_a_command_is_refused_as_text(peer: Peer, line: bytes) -> None:
    assert b"UTF-8" in await peer.ask(line)
    await peer.assert_quiet()


@pytest.mark.parametrize("end", [b"\xff", b"\xff\xfd", b"\xff\xfa\x18"])
async def test_an_unfinished_negotiation_is_text_at_the_end_of_the_stream(peer: Peer, end: bytes) -> None:
    peer.send(end)
    peer.writer.write_eof()
    assert await peer.rest() == UTF8


@pytest.mark.parametrize("inside", [b"", b"\x18", b"x" * (MAX_SUBNEGOTIATION - 1), b"x" * (MAX_SUBNEGOTIATION + 1)])
async def test_a_stray_subnegotiation_swallows_no_line_and_is_reported(peer: Peer, inside: bytes) -> None:
    peer.send(IAC + SB + inside + b"ping\n")
    assert b"UTF-8" in await peer.line()
    assert await peer.ask(b"ping\n") == PONG


async def test_the_lines_within_a_stray_subnegotiation_are_handled(peer: Peer) -> None:
    peer.send(b"ping\n" + IAC + SB + b"\nping\nping\n" + IAC + IP + b"ping\n")
    assert await peer.line() == PONG
    assert b"UTF-8" in await peer.line()
    assert await peer.line() == PONG


async def test_a_window_of_ten_lines_is_no_line(peer: Peer) -> None:
    peer.send(b"pi" + IAC + SB + b"\x1f\x00\x0a\x00\x0a" + IAC + SE + b"ng\n")
    assert await peer.line() == PONG


ERASED = {
    b"pinx\xff\xf7g\n": "ping",
    b"pub\xff\xf7\xff\xf7\xff\xf7ping\n": "ping",
    b"ping\xc3\xbc\xff\xf7\n": "ping",  # one character, two bytes
    b"ping\xf0\x9f\x98\x80\xff\xf7\n": "ping",
    b"\xff\xf7\xff\xf8ping\n": "ping",
    b"pub foo bar\xff\xf8ping\n": "ping",
    b"x\xff\xf7\xff\xf7\xff\xf7ping\n": "ping",  # there is no more than the line has
    b"pin\xff\xfd\x06x\xff\xf7g\n": "ping",
}


@pytest.mark.parametrize("sent", ERASED)
async def test_ec_erases_a_character_and_el_the_line_in_any_pieces(port: Port, sent: bytes) -> None:
    for cut in range(1, len(sent)):
        async with port.connect() as peer:
            peer.send(b"ping\n", sent[:cut])
            assert await text_bytes(peer, len(PONG)) == PONG  # the first piece has been read
            peer.send(sent[cut:])
            assert await text_bytes(peer, len(PONG)) == PONG, (sent, cut)
            await peer.assert_quiet()


async def test_a_line_that_is_whole_is_not_erased(peer: Peer) -> None:
    peer.send(b"ping\n" + IAC + EC + IAC + EL + b"ping\n" + IAC + EL)
    assert [await peer.line() for _ in range(2)] == [PONG, PONG]


BARE_CR = {
    b"pub foo a\r\0b\n": b"a\\rb",
    b"pub foo a\r\0\r\n": b"a",  # blanks at the end are not text
    b"pub foo a\r\0\r\0b\r\n": b"a\\r\\rb",
    b"pub foo a\r\0\0b\n": b"a\\rb",
    b"pub foo a\r\xff\xf1\0b\n": b"a\\rb",
    b"pub foo ax\r\0\xff\xf7\xff\xf7b\n": b"ab",  # CR is one character to erase
    b"pub foo a\xff\xfd\0\0b\n": b"a\\x00b",  # a NUL behind anything else is text
    b"pub foo a\0\rb\n": b"a\\x00\\rb",
}


@pytest.mark.parametrize("sent", BARE_CR)
async def test_the_nul_behind_a_bare_cr_is_removed_in_any_pieces(port: Port, sent: bytes) -> None:
    async with port.connect() as reader:
        await reader.ask("sub foo")
        for cut in range(1, len(sent)):
            async with port.connect() as peer:
                peer.send(b"ping\n", sent[:cut])
                assert await text_bytes(peer, len(PONG)) == PONG  # the first piece has been read
                peer.send(sent[cut:])
                assert (await reader.line()).split(b" ", 3)[3] == BARE_CR[sent] + b"\r\n", (sent, cut)


@pytest.mark.parametrize("line", [b'{"command":"ping"}\r\0\n', b'\r\0{"command":\r\0"ping"}\n'])
async def test_json_with_a_bare_cr_of_telnet_is_json(peer: Peer, line: bytes) -> None:
    assert await peer.ask(line) == b'{"success": true}\r\n'


async def test_a_flood_of_negotiation_is_refused_as_text(peer: Peer) -> None:
    peer.send((IAC + WILL + b"\x01") * 100 * MAX_COMMANDS + b"\n")
    peer.writer.write_eof()
    received = await peer.rest()
    assert UTF8 in received or PARSE in received
    assert received.replace(IAC + DONT + b"\x01", b"") in (UTF8, PARSE)


def test_a_read_full_of_negotiation_has_bounded_cost() -> None:
    """Measured in bytes, not seconds: the answers and the stored partial command are bounded."""
    for unit in (IAC + SB, IAC + WILL, IAC + DO + b"\x06", IAC + AYT, IAC + SB + IAC, IAC, b"x" + IAC + EL, IAC + EC):
        telnet = Telnet()
        for _ in range(3):
            _, answers = telnet.feed(unit * 100_000, bytearray())
            assert len(answers) <= 3 * MAX_COMMANDS + len(PONG)
            assert len(telnet.partial) <= 2 * MAX_SUBNEGOTIATION + 3


async def test_a_tls_handshake_with_telnet_bytes_is_closed_without_a_reply(peer: Peer) -> None:
    peer.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + IAC + DO + b"\x01" + IAC + AYT)
    assert await peer.rest() == b""


async def test_a_data_mark_sent_as_urgent_data_is_removed_at_its_place(peer: Peer) -> None:
    """PuTTY and BSD's telnet send it like this for an interrupt key (RFC 854, the synch signal)."""
    sock: socket.socket = peer.writer.get_extra_info("socket")
    os.write(sock.fileno(), b"pi" + IAC + IP + IAC)
    urgent = socket.socket(fileno=os.dup(sock.fileno()))
    urgent.send(DM, socket.MSG_OOB)
    urgent.detach()
    peer.send(b"ng\n")
    assert await peer.line() == PONG


async def test_the_echo_answers_negotiation_and_returns_everything_else() -> None:
    async with serving(session=lambda _: EchoSession()) as port, port.connect() as peer:
        peer.send(PUTTY + b"a\xff\xffb" + IAC + AO + b"c\r\0d\xff\n")
        peer.writer.write_eof()
        assert await peer.rest() == DECLINED + b"a\xff\xffbc\rd\xff\n"


# The real client


class Typist:
    """It types into a program at a terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._seen = b""

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def sees(self, pattern: bytes) -> None:
        """Wait until the pattern appears after the earlier ones."""
        deadline = time.monotonic() + DEADLINE
        while not (match := re.search(pattern, self._seen)):
            ready, _, _ = select.select([self._terminal], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"{pattern!r} is not shown: {self._seen!r}"
            self._seen += os.read(self._terminal, 65_536)
        self._seen = self._seen[match.end() :]


@contextmanager
def telnet(server: ServerProcess) -> Iterator[Typist]:
    ours, theirs = pty.openpty()
    attributes = termios.tcgetattr(theirs)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    program = shutil.which("telnet") or ""
    process = subprocess.Popen(
        [program, server.host, str(server.tcp_port)], stdin=theirs, stdout=theirs, stderr=theirs,
        preexec_fn=lambda: os.login_tty(theirs),  # noqa: PLW1509  # nothing else runs in this process
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Typist(ours)
    finally:
        process.kill()
        process.wait(DEADLINE)
        os.close(ours)


@pytest.mark.skipif(shutil.which("telnet") is None, reason="telnet is not installed")
def test_telnet_works_after_ctrl_c() -> None:
    with start_server() as server, telnet(server) as person:
        person.sees(rb"Escape character is '\^\]'\.\r\n")
        person.type(b"sub foo\n")
        person.sees(rb"OK subscribed to foo\r")
        for number in range(1, 4):
            person.type(
                b"\x03"
            )  # Ctrl-C: telnet sends IP and DO TIMING-MARK, and shows nothing before it has the answer
            person.type(b"pub foo hello %d\n" % number)
            person.sees(rb"OK \S+-%d subscribers=1\r" % number)
            person.sees(rb"MSG foo \S+-%d hello %d\r" % (number, number))
        person.type(b"\x1d")
        person.sees(rb"telnet> ")
        person.type(b"send ayt\n")
        person.sees(rb"OK pong")
        person.type(b"ping\n")
        person.sees(rb"OK pong")


@pytest.mark.skipif(shutil.which("telnet") is None, reason="telnet is not installed")
@pytest.mark.parametrize("command", ["eof", "susp", "abort", "eor"])
def test_telnet_commands_of_keys_corrupt_no_line(command: str) -> None:
    """Ctrl-Z and Ctrl-D in line mode, and commands without a key."""
    with start_server() as server, telnet(server) as person:
        person.sees(rb"Escape character is '\^\]'\.\r\n")
        person.type(b"ping\n")
        person.sees(rb"OK pong\r")
        person.type(b"\x1d")
        person.sees(rb"telnet> ")
        person.type(b"send %b\n" % command.encode())
        person.type(b"ping\n")
        person.sees(rb"OK pong\r")
