"""Telnet commands (RFC 854, 855, 885, 1184) of a line client: they are removed from its bytes, and answered.

The line port supports no telnet option. It answers an offer (WILL) with DONT and a request (DO) with WONT. WONT and
DONT confirm the present state and get no answer, or two sides could answer each other for ever.

All commands begin with the byte IAC (0xFF), which never occurs in UTF-8: no valid line contains one. An IAC without a
command behind it stays in the line, which is then refused because it is not UTF-8.
"""

import re
from re import Match
from typing import Final

IAC: Final = b"\xff"
MAX_COMMANDS: Final = 1_000  # in one read, so that others are served soon; further ones stay in the text
MAX_SUBNEGOTIATION: Final = 1_024  # bytes; what follows is text again, or an unfinished one would swallow all lines
PRESENT: Final = b"OK pong\r\n"  # the answer to AYT, "are you there": a person reads it

_NEGOTIATION: Final = rb"(?P<negotiation>[\xfb-\xfe](?s:.))"
_SUBNEGOTIATION: Final = (
    rb"\xfa(?:[^\xff]|\xff[^\xf0]){0,%d}+(?:\xff\xf0|(?P<unfinished>\xff?\Z))?" % MAX_SUBNEGOTIATION
)
_PARTIAL: Final = rb"(?P<partial>[\xfb-\xfe]?\Z)"
_COMMAND: Final = re.compile(
    rb"\xff(?:%b|%b|(?P<ayt>\xf6)|[\xec-\xf9]|%b|(?P<text>\xff))" % (_NEGOTIATION, _SUBNEGOTIATION, _PARTIAL)
)
_REFUSALS: Final = {b"\xfb": b"\xfe", b"\xfd": b"\xfc"}  # WILL: DONT; DO: WONT


class Telnet:
    """The telnet state of one connection."""

    __slots__ = ("_answers", "_present", "partial")

    def __init__(self) -> None:
        self.partial = b""  # a command that is not complete yet
        self._answers: list[bytes] = []
        self._present = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The text, and the answers to the commands. One reply per read to AYT: it is longer than AYT."""
        data, self.partial = self.partial + data, b""
        text = _COMMAND.sub(self._on_command, data, MAX_COMMANDS)
        answers, self._answers = b"".join([*self._answers, self._present]), []
        self._present = b""
        return text, answers

    def _on_command(self, command: Match[bytes]) -> bytes:
        """The text that replaces the command."""
        if negotiation := command["negotiation"]:
            verb, option = negotiation[:1], negotiation[1:]
            if verb in _REFUSALS:
                self._answers.append(IAC + _REFUSALS[verb] + option)
        elif command["ayt"]:
            self._present = PRESENT
        elif command["partial"] is not None or command["unfinished"] is not None:
            self.partial = command[0]
        return command[0] if command["text"] else b""
