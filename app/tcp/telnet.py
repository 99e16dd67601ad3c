"""Telnet commands (RFC 854, 855, 885, 1184) of a line client: they are removed from its bytes, and carried out.

The line port supports no telnet option. It answers an offer (WILL) with DONT and a request (DO) with WONT. WONT and
DONT confirm the present state and get no answer, or two sides could answer each other for ever.

All commands begin with the byte IAC (0xFF), which never occurs in UTF-8: no valid line contains one. An IAC without a
command behind it stays in the line, which is then refused because it is not UTF-8. So does a negotiation of the options
10 and 13, which are obsolete (RFC 652 and 655): it would take the end of a line in Latin-1 that ends in `\xff\xfe`.
So does a subnegotiation without an end: no option was agreed on, so it is a stray, and the lines in it are lines.

A telnet client sends CR NUL for a CR that ends no line (RFC 854): each NUL behind a CR is removed.
"""

import re
from itertools import islice
from re import Match
from typing import Final

IAC: Final = b"\xff"
NUL: Final = b"\0"
MAX_COMMANDS: Final = 1_000  # in one read, so that others are served soon; further ones stay in the text
MAX_SUBNEGOTIATION: Final = 1_024  # bytes; a longer one has no end
PRESENT: Final = b"OK pong\r\n"  # the answer to AYT, "are you there": a person reads it

_NEGOTIATION: Final = rb"(?P<negotiation>[\xfb-\xfe][^\r\n])"
_SUBNEGOTIATION: Final = (
    rb"\xfa(?:[^\xff]|\xff[^\xf0]){0,%d}+(?:\xff\xf0|(?P<unfinished>\xff?\Z)|(?P<endless>))" % MAX_SUBNEGOTIATION
)
_PARTIAL: Final = rb"(?P<partial>[\xfb-\xfe]?\Z)"
_COMMAND: Final = re.compile(
    rb"\xff(?:%b|%b|(?P<ayt>\xf6)|(?P<character>\xf7)|(?P<line>\xf8)|[\xec-\xf9]|%b|(?P<text>\xff))"
    % (_NEGOTIATION, _SUBNEGOTIATION, _PARTIAL)
)
_REFUSALS: Final = {b"\xfb": b"\xfe", b"\xfd": b"\xfc"}  # WILL: DONT; DO: WONT
_BARE_CR: Final = re.compile(rb"\r\0+")
_LAST_CHARACTER: Final = re.compile(rb"[^\n\x80-\xbf]?[\x80-\xbf]{0,3}\Z")  # of a line, in UTF-8


class Telnet:
    """The telnet state of one connection."""

    __slots__ = ("_answers", "_present", "partial")

    def __init__(self) -> None:
        self.partial = b""  # a command that is not complete yet
        self._answers: list[bytes] = []
        self._present = b""

    def feed(self, data: bytes, line: bytearray) -> tuple[bytes, bytes]:
        """The text, and the answers to the commands. One reply per read to AYT: it is longer than AYT. `line`: the
        beginning of the present line, from which EC (erase character) and EL (erase line) may take something."""
        data, self.partial = self.partial + data, b""
        text, begin = bytearray(), 0
        for command in islice(_COMMAND.finditer(data), MAX_COMMANDS):
            _append(text, data[begin : command.start()], line)
            begin = command.end()
            self._on_command(command, text, line)
        _append(text, data[begin:], line)
        answers, self._answers = b"".join([*self._answers, self._present]), []
        self._present = b""
        return bytes(text), answers

    def _on_command(self, command: Match[bytes], text: bytearray, line: bytearray) -> None:
        """`text` is what came before it in this read."""
        if negotiation := command["negotiation"]:
            verb, option = negotiation[:1], negotiation[1:]
            if verb in _REFUSALS:
                self._answers.append(IAC + _REFUSALS[verb] + option)
        elif command["ayt"]:
            self._present = PRESENT
        elif command["character"]:
            _erase_character(text, line)
        elif command["line"]:
            _erase_line(text, line)
        elif command["text"] or command["endless"] is not None or _is_stray(command):
            _append(text, command[0], line)
        elif command["partial"] is not None or command["unfinished"] is not None:
            self.partial = command[0]


def _append(text: bytearray, data: bytes, line: bytearray) -> None:
    """`text` is what came before it in this read, and `line` the beginning of the present line before that."""
    if data.startswith(NUL) and (text or line).endswith(b"\r"):
        data = data.lstrip(NUL)
    text += _BARE_CR.sub(b"\r", data)


def _is_stray(command: Match[bytes]) -> bool:
    """True for a subnegotiation that is not finished at an LF that was the last byte to come: lines are waited for."""
    return command["unfinished"] is not None and command[0].endswith(b"\n")


def _erase_character(text: bytearray, line: bytearray) -> None:
    tail = (line[-4:] + text[-4:])[-4:]  # the longest character has four bytes
    found = _LAST_CHARACTER.search(tail)
    assert found, "at its end the pattern matches nothing at all"
    size = len(found[0])
    in_text = min(size, len(text))
    del text[len(text) - in_text :]
    del line[len(line) - (size - in_text) :]


def _erase_line(text: bytearray, line: bytearray) -> None:
    begin = text.rfind(b"\n") + 1
    del text[begin:]
    if begin == 0:
        line.clear()
