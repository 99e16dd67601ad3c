"""The text dialect, for people."""

import re
from collections.abc import Callable
from functools import partial
from typing import Final

from ...errors import OptionInvalid, PlainmqError
from ...errors.suggestions import suggestion
from ...log.groups.records import parse_group
from ...messages.control_characters import escape_line
from ...messages.lease import MAX_LEASES, Action, parse_lease_id, parse_reason
from ...messages.message import Id, Receipt, parse_id
from ...messages.position import LATEST, parse_start
from ...messages.topic import parse_pattern, parse_topic
from .. import encoders
from .base import BadArguments, Dialect, UnknownCommand, decoded
from .commands import (
    Auth,
    Command,
    Help,
    Ping,
    Quit,
    Send,
    Settle,
    Subscribe,
    Topics,
    Unsubscribe,
    Work,
    parse_delay,
    parse_lease,
    plain_envelope,
)
from .operator_words import OPERATOR_USAGE, parse_operation

_BLANKS = re.compile(r"[ \t]+")
_NUMBER = re.compile(r"[0-9]{1,9}")
USAGE: Final = {
    "sub": "sub TOPIC [since]",
    "unsub": "unsub TOPIC [group]",
    "pub": "pub TOPIC TEXT...",
    "work": "work TOPIC GROUP [credit]",
    "ack": "ack TOPIC GROUP ID",
    "nack": "nack TOPIC GROUP ID [delay] [reason...]",
    "extend": "extend TOPIC GROUP ID [lease]",
    "auth": "auth TOKEN",
    "topics": "topics",
    "ping": "ping",
    "help": "help [operations]",
    "quit": "quit",
    **OPERATOR_USAGE,
}
_SYNONYMS: Final = {
    "subscribe": "sub",
    "unsubscribe": "unsub",
    "publish": "pub",
    "send": "pub",
    "pull": "work",
    "done": "ack",
    "exit": "quit",
    "login": "auth",
    "authorization:": "auth",
    "?": "help",
    "peek": "jobs",
    "list": "topics",
    "ls": "topics",
}

HELP: Final = """\
plainmq: each line is a command, in one of three dialects, in any mixture.
  Text, for people (a message is shown as MSG <topic> <id> <text>):
    sub TOPIC [since]     new messages; since: earliest, last:10, 10m or an id
                          b.* is every topic of b, one level; b.** all levels
    unsub TOPIC [group]   end the subscription
    pub TOPIC TEXT...     publish the text
    work TOPIC GROUP [credit]      consume: JOB <topic> <id> <text>
    ack TOPIC GROUP ID             the job is done: the next one comes
    nack TOPIC GROUP ID [delay] [reason...]   the job failed: it comes again
    extend TOPIC GROUP ID [lease]  the job takes longer than 30s
    auth TOKEN            present a token, if the server asks for one
    topics                list the topics
    ping                  test the connection
    help [operations]     this page, or the commands of an operator
    quit                  close the connection

  JSON, for programs (send needs "delivery": "all", or "one" for one of them):
    {"command":"subscribe","topic":"foo"}
    {"command":"send","topic":"foo","msg":"blah","delivery":"all"}
    {"command":"subscribe","topic":"foo","group":"workers"}
    {"command":"unsubscribe","topic":"foo"}
  Python literals, the original protocol (no answer means success):
    {'command':'subscribe', 'topic':'foo'}
    {'command':'send', 'topic':'foo', 'msg':'blah'}"""

DEFAULT_CREDIT: Final = 1  # leases at a time: a person does one job after the other


def _sub(topic: str, since: str) -> Command:
    return Subscribe(parse_pattern(topic), parse_start(since) if since else LATEST)


def _unsub(topic: str, rest: str) -> Command:
    (group,) = _arguments("unsub", rest)
    if group:
        return Unsubscribe(parse_topic(topic), parse_group(group))
    return Unsubscribe(parse_pattern(topic))


def _pub(topic: str, text: str) -> Command:
    _check_usage("pub", bool(text))
    return Send(plain_envelope(topic), text.encode())


def _work(topic: str, rest: str) -> Command:
    group, credit = _arguments("work", rest)
    return Work(parse_topic(topic), parse_group(group), _parse_credit(credit) if credit else DEFAULT_CREDIT)


def _parse_credit(text: str) -> int:
    if _NUMBER.fullmatch(text) and 1 <= int(text) <= MAX_LEASES:
        return int(text)
    raise OptionInvalid(f"{text[:60]!a} is not a credit: expected a whole number from 1 to {MAX_LEASES}")


def _settle(action: Action, topic: str, rest: str) -> Command:
    group, id, seconds = (*_arguments(action, rest), "")[:3]
    parsed = parse_lease(seconds) if seconds else None
    return Settle(action, parse_topic(topic), parse_group(group), parse_lease_id(id), parsed)


def _nack(topic: str, rest: str) -> Command:
    """The words behind the id are a delay, which begins with a digit, and a reason."""
    words = _BLANKS.split(rest, 2)
    _check_usage("nack", len(words) > 1)
    group, id, said = (*words, "")[:3]
    delay, reason = (*_BLANKS.split(said, 1), "")[:2] if said[:1].isdigit() else ("", said)
    return Settle(
        Action.NACK, parse_topic(topic), parse_group(group), parse_lease_id(id),
        parse_delay(delay) if delay else None, parse_reason(reason) if reason else None,
    )  # fmt: skip


def _auth(token: str, rest: str) -> Command:
    _check_usage("auth", not rest)
    return Auth(token)


def _arguments(verb: str, rest: str) -> list[str]:
    """The arguments after the topic, as many as the usage names. Optional ones that are missing are empty."""
    words = _BLANKS.split(rest) if rest else []
    names = USAGE[verb].split()[2:]
    optional = sum(name.startswith("[") for name in names)
    missing = len(names) - len(words)
    _check_usage(verb, 0 <= missing <= optional)
    return words + [""] * missing


def _check_usage(verb: str, correct: bool) -> None:
    if not correct:
        raise BadArguments(f"expected: {USAGE[verb]}")


_WITH_ARGUMENTS: Final[dict[str, Callable[[str, str], Command]]] = {
    "sub": _sub,
    "unsub": _unsub,
    "pub": _pub,
    "work": _work,
    "ack": partial(_settle, Action.ACK),
    "nack": _nack,
    "extend": partial(_settle, Action.EXTEND),
    "auth": _auth,
}
_WITHOUT_ARGUMENTS: Final[dict[str, Command]] = {"topics": Topics(), "ping": Ping(), "help": Help(), "quit": Quit()}


class TextDialect(Dialect):
    encoder = encoders.TEXT
    lease_encoder = encoders.TEXT_LEASE

    def parse(self, line: bytes) -> Command:
        words = _BLANKS.split(decoded(line).strip(" \t\r"), 2)
        verb, topic, rest = (*words, "", "")[:3]
        verb = verb.lower()
        if verb == "help" and topic.lower() == "operations":
            return Help(operations=True)
        if verb in OPERATOR_USAGE:
            command = parse_operation(verb, _BLANKS.split(f"{topic} {rest}".strip()) if topic else [])
            if command is None:
                raise BadArguments(f"expected: {USAGE[verb]}")
            return command
        if verb in _WITHOUT_ARGUMENTS:
            _check_usage(verb, not topic)
            return _WITHOUT_ARGUMENTS[verb]
        if verb not in _WITH_ARGUMENTS:
            raise UnknownCommand(_unknown(verb))
        _check_usage(verb, bool(topic))
        return _WITH_ARGUMENTS[verb](topic, rest)

    def success(self, text: str) -> bytes:
        return f"OK {text}\n".replace("\n", "\r\n").encode()

    def sent(self, receipt: Receipt, start: int, count: int) -> bytes:
        first = parse_id(receipt.id)
        ids = [Id(first.epoch, first.seq + start + number) for number in range(count)]
        return "".join([f"OK {id} subscribers={receipt.subscribers}\r\n" for id in ids]).encode()

    def error(self, error: PlainmqError) -> bytes:
        return f"ERR {error.code} {escape_line(str(error))}\r\n".encode()

    def bye(self, reason: str) -> bytes:
        return f"BYE {reason}\r\n".encode()


def _unknown(verb: str) -> str:
    similar = suggestion(verb, USAGE, _SYNONYMS)
    hint = f"did you mean '{USAGE[similar]}'? " if similar else ""
    return f"{verb[:20]!a} is not a command; {hint}'help' lists the commands"
