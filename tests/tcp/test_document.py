"""openapi/tcp.md agrees with the code: its transcripts are run, and its tables are compared with the code."""

import json
import re
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import pytest

from app import errors
from app.access.authenticator import Authenticator
from app.access.tokens import TokenFile
from app.messages import lease
from app.tcp import operations, subscriptions
from app.tcp.dialects import base, detect, json_objects, operator_words, python_literals, text
from tests.access.keys import put
from tests.harness import OPEN
from tests.tcp.peer import serving

DOCUMENT = (Path(__file__).parents[2] / "openapi" / "tcp.md").read_text()
TRANSCRIPTS = re.findall(r"```transcript\n(.*?)```", DOCUMENT, re.DOTALL)
WITHOUT_TOKEN = re.findall(r"```transcript as guest\n(.*?)```", DOCUMENT, re.DOTALL)
ID = re.compile(r"\bk3f9a2xy(?=-\d+\b)")  # the epoch of the examples


def expected(line: str) -> bytes:
    """The bytes that the server sends for a `line` of the document."""
    return (line + ("\n" if line.startswith("{'") else "\r\n")).encode()


@pytest.mark.parametrize("transcript", TRANSCRIPTS)
async def test_each_transcript_holds(transcript: str) -> None:
    await _play(transcript, OPEN)


@pytest.mark.parametrize("transcript", WITHOUT_TOKEN)
async def test_each_transcript_without_a_token_holds_where_a_token_is_required(transcript: str, tmp_path: Path) -> None:
    (token,) = set(re.findall(r"> auth (\S+)", transcript))
    line = {"name": "sensors", "sha256": sha256(token.encode()).hexdigest(), "publish": ["rooms.**"]}
    put(tmp_path / "tokens", json.dumps(line).encode())
    await _play(transcript, Authenticator(file=TokenFile(tmp_path / "tokens")))


async def _play(transcript: str, authenticator: Authenticator) -> None:
    async with serving(authenticator=authenticator) as port, port.connect() as peer:
        epoch = port.broker.log.epoch
        for sign, lines in groupby(ID.sub(epoch, transcript).splitlines(), key=lambda line: line[:2]):
            texts = [line[2:] for line in lines]
            if sign == "> ":
                peer.send(*texts)
            else:
                assert sign == "< "
                assert sorted(await peer.lines(len(texts))) == sorted(map(expected, texts))
        if "> quit" in transcript:
            assert await peer.rest() == b""
        else:
            await peer.assert_quiet()


def test_there_are_transcripts_of_every_dialect() -> None:
    sent = [line[2:] for transcript in TRANSCRIPTS for line in transcript.splitlines() if line.startswith("> ")]
    chosen = {detect.choose(line.encode()) for line in sent}
    assert WITHOUT_TOKEN
    assert chosen == {detect.LITERAL, detect.JSON, detect.TEXT}


def test_every_text_command_has_its_row() -> None:
    rows = re.findall(r"^\| `([a-z]+)", DOCUMENT, re.MULTILINE)
    assert set(text.USAGE) <= set(rows)
    for usage in text.USAGE.values():
        assert f"| `{usage}` |" in DOCUMENT


def test_every_command_of_an_operator_has_its_line_in_json() -> None:
    for verb in json_objects.OPERATOR_LINES:
        assert f"| `{json_objects.operator_usage(verb)}` |" in DOCUMENT
    assert f"1 to {operator_words.MAX_IDS:,} ids" in DOCUMENT
    assert f"at most {operations.MAX_JOBS} records" in DOCUMENT


def test_every_code_a_line_can_get_is_explained() -> None:
    raised: list[type[errors.PlainmqError]] = [
        base.UnknownCommand, base.BadArguments, base.NotUtf8, errors.TopicInvalid, errors.GroupInvalid,
        errors.OptionInvalid, errors.MessageTooLarge, errors.Unauthorised, errors.Forbidden, errors.NotFound,
        errors.LeaseExpired, errors.TopicLimit, errors.GroupLimit, errors.RateLimited, errors.LogFull,
        errors.SubscriberLimit, errors.Busy, errors.Overloaded, errors.StorageFailed, errors.OutcomeUnknown,
        errors.TopicPaused, errors.Draining,
        errors.PlainmqError,
    ]  # fmt: skip
    table = DOCUMENT[DOCUMENT.index("| code | when |") : DOCUMENT.index("After every code but")]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [error.code for error in raised]


def test_the_fixed_reasons_and_bounds_are_the_ones_in_the_code() -> None:
    for reason in ("Could not decode input as UTF-8", "Could not parse json", "Malformed json message"):
        assert f"| `{reason}` |" in DOCUMENT
    assert python_literals.MAX_LITERAL == 128 << 10
    assert f"{python_literals.MAX_BARE:,} characters and {python_literals.MAX_STRUCTURE} brackets" in DOCUMENT
    assert f"nested {python_literals.MAX_NESTING} deep" in DOCUMENT
    assert f"| subscriptions of one connection | {subscriptions.MAX_SUBSCRIPTIONS:,} |" in DOCUMENT
    assert f"1 to {lease.MAX_LEASES}; {json_objects.DEFAULT_CREDIT} in JSON, {text.DEFAULT_CREDIT} in text" in DOCUMENT
    assert (lease.MAX_LEASE_SECONDS, lease.MAX_NACK_DELAY) == (3_600, 86_400)
    assert "at most 1 hour" in DOCUMENT
    assert "at most 1 day" in DOCUMENT


@pytest.mark.parametrize("start", detect.BY_START)
def test_the_look_up_by_first_bytes_agrees_with_choose(start: bytes) -> None:
    assert detect.choose(start + b"command") is detect.BY_START[start]
