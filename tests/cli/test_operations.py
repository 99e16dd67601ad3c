"""`plainmq topics`, `topic`, `groups`, `group` and `peek`, run as a person or a script runs them."""

import json
import os
import subprocess
from collections.abc import Iterator
from time import monotonic
from typing import Any

import httpx
import pytest

from app.access.tokens import PREFIX
from app.messages.control_characters import CODES
from tests.cli.commands import PROGRAM, environment, post, run, running, seen_on_a_terminal
from tests.harness import DEADLINE, ROOT, ServerProcess, free_port, start_server

SEEN = {"ready": "ready", "leased": "127.0.0.1", "delayed": "try later", "dead": "bad card"}
EVIL = "tab\there\x1b[2J\u202eline\nend"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with start_server(tcp_port=0) as process:
        yield process


def rows(output: bytes) -> list[list[str]]:
    return [line.split("\t") for line in output.decode().splitlines()]


def records(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def put(server: ServerProcess, path: str, **settings: Any) -> None:
    httpx.put(f"{server.url}/{path}", json=settings).raise_for_status()


def call(server: ServerProcess, path: str, **body: Any) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/{path}", json=body or None).raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def group_with_each_state(server: ServerProcess, topic: str) -> dict[str, str]:
    """A group with a message in each state: the ids."""
    put(server, f"topics/{topic}/groups/g", max_deliveries=1, ack_timeout="1h")
    ids = [post(server.url, topic, body)["id"] for body in ("dead", "delayed", "leased", "ready")]
    dead, delayed, leased = call(server, f"topics/{topic}/groups/g/pull?max=3")["messages"]
    call(server, f"topics/{topic}/groups/g/nack", ids=[dead["lease"]], reason="bad card")
    put(server, f"topics/{topic}/groups/g", max_deliveries=9)
    call(server, f"topics/{topic}/groups/g/nack?delay=1h", ids=[delayed["lease"]], reason="try later")
    assert leased["id"] == ids[2]
    return dict(zip(("dead", "delayed", "leased", "ready"), ids, strict=True))


# Lists


def test_topics_are_listed_for_a_script_with_exact_figures_and_without_headings(
    server: ServerProcess, topic: str
) -> None:
    post(server.url, f"{topic}.b", "x" * 1_500)
    put(server, f"topics/{topic}.a", max_messages=5)
    put(server, f"topics/{topic}.b/groups/g")
    done = run("topics", f"{topic}.*", url=server.url)
    first, second = rows(done.stdout)
    assert (done.returncode, done.stderr) == (0, b"")
    assert first == [f"{topic}.a", "0", "0", "0", "0", "0", "0", ""]
    assert [second[index] for index in (0, 1, 2, 4, 5, 6)] == [f"{topic}.b", "1", "1500", "0", "1", "0"]


def test_json_has_the_records_of_the_server(server: ServerProcess, topic: str) -> None:
    group_with_each_state(server, topic)
    for command, path in (("topics", "topics"), ("groups", "groups")):
        expected = httpx.get(f"{server.url}/{path}", params={"match": topic}).json()[path]
        found = records(run(command, topic, "--json", url=server.url).stdout)
        assert [entry | {"rate": 0} for entry in found] == [entry | {"rate": 0} for entry in expected]


def test_lists_are_sorted_and_cut(server: ServerProcess, topic: str) -> None:
    for count in (1, 3, 2):
        for _ in range(count):
            post(server.url, f"{topic}.{count}", "x")
    done = run("topics", f"{topic}.*", "--sort", "messages", "--limit", "2", url=server.url)
    assert [row[0] for row in rows(done.stdout)] == [f"{topic}.3", f"{topic}.2"]
    assert done.stderr.decode() == "the first 2 are shown; --limit shows more\n"
    assert run("topics", f"{topic}.*", "--limit", "3", url=server.url).stderr == b""


def test_a_script_gets_all_topics_and_a_person_one_screen_of_them(server: ServerProcess, topic: str) -> None:
    with httpx.Client(base_url=server.url) as client:
        for number in range(1_050):  # more than a page
            client.post(f"/topics/{topic}.{number}/messages", content=b"x").raise_for_status()
    assert len(rows(run("topics", f"{topic}.*", url=server.url).stdout)) == 1_050
    assert f"did you mean '{topic}.999'?" in run("topic", f"{topic}_999", url=server.url).stderr.decode()
    shown = seen_on_a_terminal("topics", f"{topic}.*", url=server.url, columns=120, env={"TERM": "dumb"}).decode()
    assert shown.count(topic) == 100
    assert "the first 100 are shown; --limit shows more" in shown


def test_a_list_of_nothing_says_so(server: ServerProcess, topic: str) -> None:
    for command, noun in (("topics", "topics"), ("groups", "groups")):
        done = run(command, f"{topic}.**", url=server.url)
        assert (done.returncode, done.stdout) == (0, b"")
        assert done.stderr.decode() == f"there are no {noun} that {topic}.** matches\n"


def test_a_closed_pipe_ends_a_list_without_an_error(server: ServerProcess, topic: str) -> None:
    post(server.url, topic, "x")
    ours, theirs = os.pipe()
    os.close(ours)
    with running("topics", topic, url=server.url, stdout=theirs) as command:
        os.close(theirs)
        assert command.wait() == (0, b"")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_person_gets_a_table_as_wide_as_the_terminal_with_whole_names(
    server: ServerProcess, topic: str, width: int
) -> None:
    group_with_each_state(server, topic)
    shown = seen_on_a_terminal("groups", topic, url=server.url, columns=width, env={"TERM": "dumb"}).decode()
    heading, *lines = shown.splitlines()
    assert max(map(len, (heading, *lines))) <= width
    if width == 40:  # too narrow for a line with all values
        assert {"group g", "ready 1", "dead 1"} <= {" ".join(line.split()) for line in lines}
        return
    assert heading.split()[:2] == ["topic", "group"]
    assert "".join(line.split(" ", 1)[0] for line in lines) == topic
    if width >= 80:
        assert lines[0].split()[1:7] == ["g", "1", "1", "1", "1", "0"]


def test_a_dumb_terminal_gets_no_escape_sequence(server: ServerProcess, topic: str) -> None:
    group_with_each_state(server, topic)
    for command in (["topics", topic], ["groups", topic], ["topic", topic], ["group", topic, "g"], ["peek", topic]):
        assert b"\x1b" not in seen_on_a_terminal(*command, url=server.url, env={"TERM": "dumb"})


# One topic, one group


def test_a_topic_is_shown_and_changed(server: ServerProcess, topic: str) -> None:
    post(server.url, topic, "x")
    shown = dict(rows(run("topic", topic, url=server.url).stdout))
    assert (shown["topic"], shown["messages"], shown["state"]) == (topic, "1", "")
    changes = ["--max-messages", "7", "--max-bytes", "4096", "--max-age", "2h", "--pause"]
    (changed,) = records(run("topic", topic, *changes, "--json", url=server.url).stdout)
    assert changed["retention"] == {"max_messages": 7, "max_bytes": 4096, "max_age": "2h"}
    assert changed["paused"] is True
    assert dict(rows(run("topic", topic, url=server.url).stdout))["state"] == "paused"
    (resumed,) = records(run("topic", topic, "--resume", "--json", url=server.url).stdout)
    assert (resumed["paused"], resumed["retention"]) == (False, changed["retention"])


def test_a_group_is_shown_and_changed(server: ServerProcess, topic: str) -> None:
    group_with_each_state(server, topic)
    refused = run("group", topic, "g", "--dead-letter", f"{topic}.lost", url=server.url)
    assert (refused.returncode, b"redrive or delete them first" in refused.stderr) == (1, True)
    changes = ["--ack-timeout", "90s", "--max-deliveries", "3", "--dead-letter", f"{topic}.dead", "--pause"]
    shown = dict(rows(run("group", topic, "g", *changes, url=server.url).stdout))
    assert [shown[name] for name in ("ready", "leased", "delayed", "died", "acked")] == ["1", "1", "1", "1", "0"]
    assert [shown[name] for name in ("ack-timeout", "max-deliveries", "dead-letter", "state")] == [
        "90s", "3", f"{topic}.dead", "paused",
    ]  # fmt: skip
    assert dict(rows(run("group", topic, "g", "--resume", url=server.url).stdout))["state"] == ""


def test_a_mistyped_name_creates_nothing(server: ServerProcess, topic: str) -> None:
    for command in (["topic", topic, "--max-messages", "1"], ["group", topic, "g", "--max-deliveries", "1"]):
        assert run(*command, url=server.url).returncode == 1
        assert httpx.get(f"{server.url}/topics/{topic}").status_code == 404
        assert run(*command, "--create", url=server.url).returncode == 0
        httpx.delete(f"{server.url}/topics/{topic}").raise_for_status()


# Peek


@pytest.mark.parametrize("state", SEEN)
def test_messages_of_a_group_are_seen_in_each_state_and_stay_there(
    server: ServerProcess, topic: str, state: str
) -> None:
    id = group_with_each_state(server, topic)[state]
    before = httpx.get(f"{server.url}/topics/{topic}/groups/g").json() | {"rate": 0}
    (row,) = rows(run("peek", topic, "g", "--state", state, url=server.url).stdout)
    (record,) = records(run("peek", topic, "g", "--state", state, "--json", url=server.url).stdout)
    assert httpx.get(f"{server.url}/topics/{topic}/groups/g").json() | {"rate": 0} == before
    assert (row[0], row[-1], record["state"], record["data"]) == (record["id"], state, state, state)
    assert id == (record["original"] if state == "dead" else record["id"])
    assert SEEN[state] in row


def test_a_person_who_sees_dead_messages_reads_how_to_return_them(server: ServerProcess, topic: str) -> None:
    group_with_each_state(server, topic)
    advice = f"to return them to their group: plainmq redrive {topic} g ID..., or --all"
    for words in (["peek", topic, "g", "--state", "dead"], ["peek", f"{topic}.dead"]):
        assert advice in " ".join(seen_on_a_terminal(*words, url=server.url).decode().split())
        assert run(*words, url=server.url).stderr == b""  # a script reads none of it
    for words in (["peek", topic, "g"], ["peek", topic], ["peek", f"{topic}.dead", "--json"]):
        assert "redrive" not in seen_on_a_terminal(*words, url=server.url).decode()
    assert run("redrive", topic, "g", "--all", url=server.url).returncode == 0
    assert "redrive" not in seen_on_a_terminal("peek", topic, "g", "--state", "dead", url=server.url).decode()


def test_the_newest_messages_of_a_topic_are_seen_or_those_since_a_position(server: ServerProcess, topic: str) -> None:
    ids = [post(server.url, topic, str(number))["id"] for number in range(5)]
    assert [row[0] for row in rows(run("peek", topic, "--limit", "2", url=server.url).stdout)] == ids[3:]
    since = ["--since", ids[0], "--limit", "2"]
    assert [row[0] for row in rows(run("peek", topic, *since, url=server.url).stdout)] == ids[1:3]
    put(server, f"topics/{topic}/groups/g")
    done = run("peek", topic, "g", *since, url=server.url)
    assert [row[0] for row in rows(done.stdout)] == ids[1:3]
    assert done.stderr.decode() == f"there are more: --since {ids[2]}\n"


def test_peeking_reads_as_many_pages_as_it_takes(server: ServerProcess, topic: str) -> None:
    body = b"\n".join(b"%d" % number for number in range(1_000))
    httpx.post(
        f"{server.url}/topics/{topic}/messages", content=body, headers={"Content-Type": "application/x-ndjson"}
    ).raise_for_status()
    for number in range(3):
        httpx.post(f"{server.url}/topics/{topic}/messages", content=b"%d" % number + b"x" * 700_000)
    found = records(run("peek", topic, "--since", "earliest", "--limit", "2000", "--json", url=server.url).stdout)
    assert [entry["data"][:1] for entry in found[-3:]] == ["0", "1", "2"]
    assert len(found) == 1_000  # what is retained


def test_a_body_does_not_steer_a_terminal_and_takes_one_column(server: ServerProcess, topic: str) -> None:
    put(server, f"topics/{topic}/groups/g")
    post(server.url, topic, EVIL)
    httpx.post(f"{server.url}/topics/{topic}/messages", content=b"\xff\x9b2J")
    taboo = [chr(code).encode() for code in CODES if code not in (0x0D, 0x0A)]
    for words in (["peek", topic], ["peek", topic, "g"]):
        for shown in (
            run(*words, url=server.url).stdout,
            seen_on_a_terminal(*words, url=server.url, env={"TERM": "dumb"}, columns=120),
        ):
            assert b"tab\\there\\u001b[2J\\u202eline\\nend" in shown
            assert b"(4 bytes that are not UTF-8)" in shown
            assert not [code for code in taboo if code in shown.replace(b"\r\n", b"\n")]
        assert records(run(*words, "--json", url=server.url).stdout)[0]["data"] == EVIL


def test_a_long_body_is_cut_for_a_person_only(server: ServerProcess, topic: str) -> None:
    post(server.url, topic, "y" * 5_000)
    assert rows(run("peek", topic, url=server.url).stdout)[0][-1] == "y" * 5_000
    shown = seen_on_a_terminal("peek", topic, url=server.url, env={"TERM": "dumb"}).decode()
    assert len(shown.splitlines()) == 2
    assert "…" in shown


# Errors


def test_the_name_that_was_meant_is_suggested(server: ServerProcess, topic: str) -> None:
    put(server, f"topics/{topic}/groups/resizers")
    wrong, bare = f"{topic}x", f"bare.{topic}"
    put(server, f"topics/{bare}")
    for words, expected in (
        (["topic", wrong], f"there is no topic '{wrong}'; did you mean '{topic}'?"),
        (["peek", wrong], f"there is no topic '{wrong}'; did you mean '{topic}'?"),
        (["group", wrong, "resizers"], f"there is no topic '{wrong}'; did you mean '{topic}'?"),
        (["group", topic, "resizer"], f"topic '{topic}' has no group 'resizer'; did you mean 'resizers'?"),
        (["peek", bare, "xyz"], f"topic '{bare}' has no group 'xyz'; `plainmq group {bare} xyz --create` makes it"),
        (["peek", topic, "xyz"], f"topic '{topic}' has no group 'xyz'; `plainmq groups` lists what there is"),
    ):
        done = run(*words, url=server.url)
        assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", f"Error: {expected}\n")


def test_a_server_that_does_not_answer_is_named_with_its_address() -> None:
    port = free_port()
    done = run("topics", url=f"http://127.0.0.1:{port}")
    assert done.returncode == 3
    assert done.stderr.decode().startswith(f"Error: http://127.0.0.1:{port} cannot be reached: ")
    assert done.stderr.decode().endswith(
        "start a server with `plainmq serve`, or give its address with --url or PLAINMQ_URL\n"
    )


def test_without_the_right_the_sentence_says_which_and_bodies_are_withheld(tmp_path: Any) -> None:
    folder = ["--data-dir", str(tmp_path)]
    token = {
        name: run("token", name, *rights, *folder).stdout.decode().strip()
        for name, rights in {"all": ["--all"], "seer": ["--view", "seen.**"], "mute": ["--publish", "**"]}.items()
    }
    assert all(text.startswith(PREFIX) for text in token.values())
    with start_server(*folder, tcp_port=0) as server:

        def as_(name: str, *words: str) -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                [*PROGRAM, *words], capture_output=True, timeout=DEADLINE, check=False, cwd=ROOT,
                env=environment(server.url) | {"PLAINMQ_TOKEN": token[name]},
            )  # fmt: skip

        assert as_("all", "group", "seen.t", "g", "--create").returncode == 0
        assert as_("all", "publish", "seen.t", "secret").returncode == 0
        refused = as_("mute", "topics")
        assert refused.returncode == 1
        assert refused.stderr.decode() == (
            "Error: this token has no right to view or admin on '**'; `plainmq check` shows what the token may do\n"
        )
        assert rows(as_("seer", "topics", "seen.**").stdout)[0][0] == "seen.t"
        assert rows(as_("seer", "peek", "seen.t", "g").stdout)[0][-1] == "(the token has no right to read it)"
        withheld = as_("seer", "peek", "seen.t")
        assert (withheld.returncode, withheld.stderr.decode()) == (
            1,
            "Error: there is no topic 'seen.t', or this token has no right to subscribe on it; "
            "`plainmq check` shows what the token may do\n",
        )
        unknown = run("topics", url=server.url)
        assert unknown.stderr.decode().endswith("asks for a token: give a valid one with --token or PLAINMQ_TOKEN\n")


# Completion


def completed(server: ServerProcess, *words: str, token: str | None = None) -> list[str]:
    """What bash is offered for the last word, at the latest when this machine is not too busy to answer soon."""
    end = monotonic() + DEADLINE
    while not (names := offered(server, *words, token=token)) and monotonic() < end:
        pass
    return names


def offered(server: ServerProcess | None, *words: str, token: str | None = None) -> list[str]:
    variables = {
        "_PLAINMQ_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("plainmq", *words)),
        "COMP_CWORD": str(len(words)),
    }
    url = server.url if server else f"http://127.0.0.1:{free_port()}"
    done = subprocess.run(
        PROGRAM, capture_output=True, timeout=DEADLINE, check=True, cwd=ROOT,
        env=environment(url) | variables | ({"PLAINMQ_TOKEN": token} if token else {}),
    )  # fmt: skip
    assert done.stderr == b""
    return [line.partition(",")[2] for line in done.stdout.decode().split()]


def test_a_shell_completes_commands_topics_and_groups(server: ServerProcess, topic: str) -> None:
    put(server, f"topics/{topic}.eu/groups/resizers")
    post(server.url, f"{topic}.us", "x")
    assert completed(server, "topi") == ["topic", "topics"]
    assert completed(server, "topic", f"{topic}.") == [f"{topic}.eu", f"{topic}.us"]
    assert completed(server, "peek", f"{topic}.e") == [f"{topic}.eu"]
    assert completed(server, "publish", f"{topic}.u") == [f"{topic}.us"]
    assert completed(server, "group", f"{topic}.eu", "res") == ["resizers"]
    assert completed(server, "groups", "--url", server.url, f"{topic}.e") == [f"{topic}.eu"]


def test_completion_is_silent_without_a_server_and_offers_no_name_that_a_shell_would_run(
    server: ServerProcess, topic: str
) -> None:
    assert offered(None, "topic", "x") == []
    httpx.post(f"{server.url}/topics/{topic}.$(id)/messages", content=b"x").raise_for_status()
    httpx.post(f"{server.url}/topics/{topic}.id/messages", content=b"x").raise_for_status()
    assert completed(server, "topic", f"{topic}.") == [f"{topic}.id"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(shell: str) -> None:
    done = run("completion", shell)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"_PLAINMQ_COMPLETE=%s_complete" % shell.encode() in done.stdout
