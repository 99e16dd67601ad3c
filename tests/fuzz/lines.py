"""The line parser: whatever comes, each line is a Command or one line of refusal; and a literal means what Python says.

What a Command publishes is shown in every form of the line port, one line each, and means the same when it is read.
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

LIMIT: Final = 2_000  # bytes of a line here


def split(data: bytes) -> None:
    """The first byte says where the rest is cut: what the lines are does not depend on it."""
    where, data = data[0] if data else 0, data[1:]
    whole, cut = LineSplitter(LIMIT), LineSplitter(LIMIT)
    expected = whole.feed(data) + whole.end()
    step = where % 64 + 1
    got = [line for start in range(0, len(data), step) for line in cut.feed(data[start : start + step])] + cut.end()
    assert [line[: LIMIT + 1] for line in got] == [line[: LIMIT + 1] for line in expected]
    assert all(len(line) <= len(data) for line in got)
    assert not whole.partial


def any_dialect(data: bytes) -> None:
    split(data)
    for line in data.split(b"\n"):
        if line and not line.isspace():
            dialect = detect.choose(line)
            if dialect is not None:
                parse(dialect, line)


def parse(dialect: Dialect, line: bytes) -> Command | None:
    """Do with a line what the session does."""
    try:
        command = dialect.parse(line)
    except PlainmqError as error:
        is_one_line(dialect.error(error))
        return None
    if isinstance(command, Send):
        shown_in_every_form(command)
    return command


def is_one_line(text: bytes) -> None:
    assert text.endswith(b"\n")
    assert text.count(b"\n") == 1
    assert b"Traceback" not in text
    text.decode()


def shown_in_every_form(sent: Send) -> None:
    (run,) = make_runs(Draft(sent.envelope, [sent.data]), "k", 1, 0, 0.0)
    (message,) = run.messages
    for form in (JSON, LITERAL, TEXT):
        is_one_line(form.encode(message))
    assert evaluated(LITERAL.encode(message).decode()).keys() >= {"command", "topic", "msg"}
    shown = json.loads(JSON.encode(message))
    if message.content_type.startswith("text/"):
        assert shown["msg"].encode() == message.data


def literal(data: bytes) -> None:
    """A line of the first protocol; what is accepted has the value that Python gives it."""
    line = data.partition(b"\n")[0]
    command = parse(detect.LITERAL, line)
    if isinstance(command, Send):
        said = evaluated(line.decode())["msg"]
        as_text = said if isinstance(said, (str, bytes)) else repr(said)
        assert command.data == (as_text if isinstance(as_text, bytes) else as_text.encode())
        assert command.envelope.line is not None
        assert command.envelope.line.replace(BODY_PLACEHOLDER, command.data) == line + b"\n"


def evaluated(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.literal_eval(text.strip())


def json_line(data: bytes) -> None:
    """What is accepted is JSON to others too, and means the same."""
    line = data.partition(b"\n")[0]
    command = parse(detect.JSON, line)
    if command is not None:
        value = json.loads(line)
        assert isinstance(value, dict)
        if isinstance(command, Send):
            assert command.data == value["msg"].encode()


def words(data: bytes) -> None:
    line = data.partition(b"\n")[0]
    command = parse(detect.TEXT, line)
    if isinstance(command, Send):
        assert line.rstrip(b" \t\r").endswith(command.data.rstrip(b" \t\r"))
