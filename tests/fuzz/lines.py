"""The parsers of the line port: each line gives a Command or a one-line error. Literals have the value of Python's.

A message that a Command publishes is encoded by every dialect as one line, which reads back as the same message.
"""

import ast
import json
import warnings
from typing import Any, Final

from app.errors import PlainmqError
from app.log.run import make_runs
from app.messages.message import BODY_PLACEHOLDER, Draft
from app.tcp.dialects import detect
from app.tcp.dialects.base import Dialect
from app.tcp.dialects.commands import Command, Send
from app.tcp.encoders import JSON, LITERAL, TEXT
from app.tcp.splitter import LineSplitter

MAX_LINE: Final = 2_000  # bytes


def split(data: bytes) -> None:
    """The lines do not depend on how the data is divided into reads. The first byte gives the size of the reads."""
    first, data = data[0] if data else 0, data[1:]
    whole, divided = LineSplitter(MAX_LINE), LineSplitter(MAX_LINE)
    expected = whole.feed(data) + whole.end()
    step = first % 64 + 1
    found = [
        line for start in range(0, len(data), step) for line in divided.feed(data[start : start + step])
    ] + divided.end()
    assert [line[: MAX_LINE + 1] for line in found] == [line[: MAX_LINE + 1] for line in expected]
    assert all(len(line) <= len(data) for line in found)
    assert not whole.partial


def any_dialect(data: bytes) -> None:
    split(data)
    for line in data.split(b"\n"):
        if line and not line.isspace():
            dialect = detect.choose(line)
            if dialect is not None:
                parse(dialect, line)


def parse(dialect: Dialect, line: bytes) -> Command | None:
    """Parse a line as the session does."""
    try:
        command = dialect.parse(line)
    except PlainmqError as error:
        check_one_line(dialect.error(error))
        return None
    if isinstance(command, Send):
        check_encoders(command)
    return command


def check_one_line(text: bytes) -> None:
    assert text.endswith(b"\n")
    assert text.count(b"\n") == 1
    assert b"Traceback" not in text
    text.decode()


def check_encoders(sent: Send) -> None:
    (run,) = make_runs(Draft(sent.envelope, [sent.data]), "k", 1, 0, 0.0)
    (message,) = run.messages
    for encoder in (JSON, LITERAL, TEXT):
        check_one_line(encoder.encode(message))
    assert evaluated(LITERAL.encode(message).decode()).keys() >= {"command", "topic", "msg"}
    record = json.loads(JSON.encode(message))
    if message.content_type.startswith("text/"):
        assert record["msg"].encode() == message.data


def literal(data: bytes) -> None:
    """A line of the original protocol. If it is accepted, its value is the one that Python evaluates."""
    line = data.partition(b"\n")[0]
    command = parse(detect.LITERAL, line)
    if isinstance(command, Send):
        value = evaluated(line.decode())["msg"]
        as_text = value if isinstance(value, (str, bytes)) else repr(value)
        assert command.data == (as_text if isinstance(as_text, bytes) else as_text.encode())
        assert command.envelope.line is not None
        assert command.envelope.line.replace(BODY_PLACEHOLDER, command.data) == line + b"\n"


def evaluated(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.literal_eval(text.strip())


def json_line(data: bytes) -> None:
    """If a line is accepted, the standard library's parser accepts it too, with the same value."""
    line = data.partition(b"\n")[0]
    command = parse(detect.JSON, line)
    if command is not None:
        value = json.loads(line)
        assert isinstance(value, dict)
        if isinstance(command, Send):
            assert command.data == value["msg"].encode()


def text(data: bytes) -> None:
    line = data.partition(b"\n")[0]
    command = parse(detect.TEXT, line)
    if isinstance(command, Send):
        assert line.rstrip(b" \t\r").endswith(command.data.rstrip(b" \t\r"))
