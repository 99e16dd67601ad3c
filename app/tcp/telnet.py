"""What a telnet client says beside its lines (RFC 854, 855, 885, 1184): taken out of the bytes, and answered.

This port has no option of telnet. So an offer (WILL) gets DONT and a wish (DO) gets WONT; WONT and DONT say what is the
case already and get no answer, or two sides could answer each other for ever.

All of it begins with the byte IAC (0xFF), which never stands in UTF-8: a lawful line cannot be mistaken for it. What
follows an IAC and is no command stays in the line, which is refused then, as before.
"""

import re
from re import Match
from typing import Final

IAC: Final = b"\xff"
MOST: Final = 1_000  # commands that are heard in one read; the rest is text, so that nobody else waits for it
LONGEST: Final = 1_024  # bytes of a subnegotiation (SB): what follows is text again, or a client would be deaf
PRESENT: Final = b"OK pong\r\n"  # the answer to AYT, "are you there": a person reads it

_ASKED: Final = rb"(?P<asked>[\xfb-\xfe](?s:.))"
_SUBNEGOTIATION: Final = rb"\xfa(?:[^\xff]|\xff[^\xf0]){0,%d}+(?:\xff\xf0|(?P<within>\xff?\Z))?" % LONGEST
_BEGUN: Final = rb"(?P<begun>[\xfb-\xfe]?\Z)"
_COMMAND: Final = re.compile(
    rb"\xff(?:%b|%b|(?P<present>\xf6)|[\xec-\xf9]|%b|(?P<text>\xff))" % (_ASKED, _SUBNEGOTIATION, _BEGUN)
)
_DECLINED: Final = {b"\xfb": b"\xfe", b"\xfd": b"\xfc"}  # WILL: DONT; DO: WONT


class Telnet:
    """The telnet of one connection."""

    __slots__ = ("_answers", "_present", "rest")

    def __init__(self) -> None:
        self.rest = b""  # of a command that is not whole yet
        self._answers: list[bytes] = []
        self._present = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The text in it, and what the client shall be answered: of a read one AYT, since it is longer than that."""
        data, self.rest = self.rest + data, b""
        text = _COMMAND.sub(self._heard, data, MOST)
        answers, self._answers = b"".join([*self._answers, self._present]), []
        self._present = b""
        return text, answers

    def _heard(self, command: Match[bytes]) -> bytes:
        """What it leaves in the text."""
        if asked := command["asked"]:
            verb, option = asked[:1], asked[1:]
            if verb in _DECLINED:
                self._answers.append(IAC + _DECLINED[verb] + option)
        elif command["present"]:
            self._present = PRESENT
        elif command["begun"] is not None or command["within"] is not None:
            self.rest = command[0]
        return command[0] if command["text"] else b""
