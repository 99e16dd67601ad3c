"""An operator's commands do and report the same in JSON as in text."""

import json
import re
from collections.abc import Callable
from itertools import count
from typing import Any, Final, NamedTuple

import pytest

from app.tcp.dialects.json_objects import OPERATOR_LINES, operator_usage
from app.tcp.dialects.operator_words import MAX_IDS, OPERATOR_USAGE
from tests.harness import ServerProcess, http_client
from tests.tcp.peer import Peer

_numbers = count()


class Case(NamedTuple):
    """The same command in both dialects. `T`, `D`, `J` and `N` stand for the topic, a dead letter, a delayed job and a
    job that was never handed out."""

    text: str
    line: str  # without braces, `command` and `topic`


CASES: Final = [
    Case("jobs T g dead", '"jobs","group":"g","state":"dead"'),
    Case("jobs T g delayed", '"jobs","group":"g","state":"delayed"'),
    Case("jobs T g", '"jobs","group":"g"'),
    Case("redrive T g D other-1", '"redrive","group":"g","ids":["D","other-1"]'),
    Case("redrive T g all", '"redrive","group":"g","ids":"all"'),
    Case("release T g J", '"release","group":"g","id":"J"'),
    Case("release T g other-1", '"release","group":"g","id":"other-1"'),
    Case("skip T g N", '"skip","group":"g","id":"N"'),
    Case("skip T g other-1", '"skip","group":"g","id":"other-1"'),
    Case("pause T g", '"pause","group":"g"'),
    Case("resume T g", '"resume","group":"g"'),
    Case("pause T", '"pause"'),
    Case("resume T", '"resume"'),
    Case("seek T g latest", '"seek","group":"g","position":"latest"'),
    Case("seek T g N", '"seek","group":"g","position":"N"'),
    Case("purge T 1h", '"purge","before":"1h"'),
    Case("purge T", '"purge"'),
    # Errors
    Case("jobs T g lost", '"jobs","group":"g","state":"lost"'),
    Case("jobs T g/h", '"jobs","group":"g/h"'),
    Case("redrive T g some", '"redrive","group":"g","ids":["some"]'),
    Case("redrive T none all", '"redrive","group":"none","ids":"all"'),
    Case("release T g some", '"release","group":"g","id":"some"'),
    Case("skip T none N", '"skip","group":"none","id":"N"'),
    Case("seek T g nowhere", '"seek","group":"g","position":"nowhere"'),
    Case("pause T none", '"pause","group":"none"'),
    Case("resume T none", '"resume","group":"none"'),
    Case("purge T latest", '"purge","before":"latest"'),
]


class Place(NamedTuple):
    """A topic whose group `g` has a dead, a delayed and a new message."""

    topic: str
    names: dict[str, str]

    def fill(self, text: str) -> str:
        return re.sub(r"\b[TDJN]\b", lambda found: self.names[found[0]], text)

    def empty(self, text: str) -> str:
        """The text as it would be for any place."""
        return re.sub(r"[0-9a-z]{8,}-\d+", "ID", text.replace(self.topic, "T"))


async def make(server: ServerProcess) -> Place:
    topic = f"operators.{next(_numbers)}"
    async with http_client(server.url) as http:
        path = f"/topics/{topic}"
        await http.put(path, json={"max_messages": 1_000})
        await http.put(f"{path}/groups/g", json={"max_deliveries": 1})
        dead = (await http.post(f"{path}/messages", content=b"dea\x1bd")).json()["id"]
        await http.post(f"{path}/groups/g/pull")
        await http.post(f"{path}/groups/g/nack", json={"ids": [dead], "reason": "no water"})
        letter = (await http.get("/jobs", params={"topic": topic, "group": "g", "state": "dead"})).json()["jobs"][0][
            "id"
        ]
        await http.put(f"{path}/groups/g", json={"max_deliveries": 9})
        delayed = (await http.post(f"{path}/messages", content=b"later")).json()["id"]
        await http.post(f"{path}/groups/g/pull")
        await http.post(f"{path}/groups/g/nack?delay=1h", json={"ids": [delayed]})
        new = (await http.post(f"{path}/messages", content=b"new")).json()["id"]
    return Place(topic, {"T": topic, "D": letter, "J": delayed, "N": new})


async def ask_text(peer: Peer, line: str) -> list[str]:
    peer.send(line)
    return [text.decode() for text in [await peer.line(), *await peer.synchronise()]]


async def ask_json(peer: Peer, line: str) -> dict[str, Any]:
    answer = await peer.ask(line)
    assert answer.endswith(b"}\r\n")
    assert b"\x1b" not in answer
    fields: dict[str, Any] = json.loads(answer)
    return fields


def as_text(verb: str, answer: dict[str, Any]) -> str:
    """The first line of the reply in text that says what this answer says."""
    fields = dict(answer)
    if not fields.pop("success"):
        return f"ERR {fields.pop('code')} {fields.pop('reason')}\r\n"
    if verb == "jobs":
        assert fields.pop("next") is None
        return f"OK jobs={len(fields['jobs'])}\r\n"
    if "paused" in fields:
        return f"OK {'paused' if fields['paused'] else 'resumed'}\r\n"
    return f"OK {' '.join(f'{name}={value}' for name, value in fields.items()) or 'done'}\r\n"


def state(topic: dict[str, Any]) -> dict[str, Any]:
    return {name: topic[name] for name in ("messages", "bytes", "delayed", "paused")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text)
async def test_a_command_in_json_does_and_answers_what_it_does_in_text(
    case: Case, server: ServerProcess, peer: Peer
) -> None:
    verb = case.text.partition(" ")[0]
    by_text, by_json = await make(server), await make(server)
    said = await ask_text(peer, by_text.fill(case.text))
    filled = by_json.fill(case.line)
    command, _, others = filled.partition(",")
    answer = await ask_json(peer, f'{{"command":{command},"topic":"{by_json.topic}"{_comma(others)}}}')
    assert by_json.empty(as_text(verb, answer)) == by_text.empty(said[0])
    async with http_client(server.url) as http:
        for path, keep in (("", state), ("/groups/g", _group_state)):
            one, other = [(await http.get(f"/topics/{place.topic}{path}")).json() for place in (by_text, by_json)]
            assert keep(one) == keep(other)


def _comma(others: str) -> str:
    return f",{others}" if others else ""


def _group_state(group: dict[str, Any]) -> dict[str, Any]:
    return {name: group[name] for name in ("ready", "leased", "delayed", "acked", "dead", "skipped", "paused")}


def test_every_command_of_text_has_cases_that_succeed_and_fail() -> None:
    succeed = CASES[: CASES.index(Case("jobs T g lost", '"jobs","group":"g","state":"lost"'))]
    fail = CASES[len(succeed) :]
    for cases in (succeed, fail):
        assert {case.text.partition(" ")[0] for case in cases} == set(OPERATOR_USAGE)


@pytest.mark.parametrize("wanted", ["dead", "delayed", "ready"])
async def test_jobs_have_the_records_of_http(wanted: str, server: ServerProcess, peer: Peer) -> None:
    place = await make(server)
    answer = await ask_json(peer, f'{{"command":"jobs","topic":"{place.topic}","group":"g","state":"{wanted}"}}')
    async with http_client(server.url) as http:
        page = await http.get("/jobs", params={"topic": place.topic, "group": "g", "state": wanted})
    assert answer == {"success": True, **page.json()}
    assert len(answer["jobs"]) == 1


async def test_topics_have_the_records_of_http(server: ServerProcess, peer: Peer) -> None:
    await make(server)
    answer = await ask_json(peer, '{"command":"topics"}')
    async with http_client(server.url) as http:
        topics = (await http.get("/topics")).json()["topics"]
    named = {record["topic"]: _steady(record) for record in topics}
    assert answer.pop("success") is True
    assert {record["topic"]: _steady(record) for record in answer.pop("topics")} == named
    assert answer == {}


def _steady(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "rate"}


MALFORMED: Final[list[tuple[str, Callable[[str], str]]]] = [
    ("a key missing", lambda verb: f'{{"command":"{verb}"}}'),
    ("an unknown key", lambda verb: operator_line(verb)[:-1] + ',"more":"x"}'),
    ("a key twice", lambda verb: operator_line(verb)[:-1] + ',"topic":"b"}'),
    ("a wrong type", lambda verb: operator_line(verb).replace('"a"', "1")),
]


def operator_line(verb: str) -> str:
    """A valid line without optional keys."""
    ids = ',"group":"g","ids":["k3-1"]'
    keys = {"jobs": ',"group":"g"', "redrive": ids, "release": ',"group":"g","id":"k3-1"'}
    keys |= {"skip": keys["release"], "seek": ',"group":"g","position":"latest"'}
    return f'{{"command":"{verb}","topic":"a"{keys.get(verb, "")}}}'


@pytest.mark.parametrize("verb", OPERATOR_USAGE)
@pytest.mark.parametrize("fault", [make for _, make in MALFORMED], ids=[name for name, _ in MALFORMED])
async def test_a_malformed_line_is_answered_with_its_keys(verb: str, fault: Callable[[str], str], peer: Peer) -> None:
    answer = await ask_json(peer, fault(verb))
    assert answer == {"success": False, "reason": f"expected: {operator_usage(verb)}", "code": "bad_arguments"}


@pytest.mark.parametrize(
    ("ids", "code"), [(0, "bad_arguments"), (MAX_IDS, "not_found"), (MAX_IDS + 1, "bad_arguments")]
)
async def test_a_redrive_names_at_least_one_id_and_at_most_as_many_as_over_http(
    ids: int, code: str, peer: Peer
) -> None:
    names = json.dumps([f"k3f9a2xy-{number}" for number in range(ids)])
    line = f'{{"command":"redrive","topic":"nowhere","group":"g","ids":{names}}}'
    assert (await ask_json(peer, line))["code"] == code


async def test_lines_of_the_original_protocol_keep_their_fixed_reasons_and_get_no_code(peer: Peer) -> None:
    malformed = {"success": False, "reason": "Malformed json message"}
    for line in ('{"command":"peek","topic":"a"}', '{"command":"send","topic":"a"}', '{"command":"ping","topic":"a"}'):
        assert await ask_json(peer, line) == malformed


def test_json_has_every_command_of_text() -> None:
    assert set(OPERATOR_LINES) == {*OPERATOR_USAGE, "topics"}
    assert operator_usage("redrive") == '{"command":"redrive","topic":T,"group":G,"ids":[I,...]}'
    assert operator_usage("pause") == '{"command":"pause","topic":T[,"group":G]}'
    assert operator_usage("topics") == '{"command":"topics"}'
