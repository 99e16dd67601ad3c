"""A slip in a command is told with what was probably meant, and never with what cannot be taken back."""

from itertools import product

import pytest

from app.cli import COMMANDS, SYNONYMS, main
from app.errors.suggestions import IRREVERSIBLE, suggestion
from tests.cli.commands import run

WORDS = ("pause", "resume", "delete", "remove", "clear", "clean", "restart", "reset", "stop", "kill", "drop", "flush",
         "list", "peak", "see", "ship", "slip", "please", "store", "purg", "skipp", "seek", "leave")  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["pause", "x"], "did you mean `plainmq topic TOPIC --pause` or `plainmq group TOPIC GROUP --pause`?"),
        (["resume", "x"], "did you mean `plainmq topic TOPIC --resume` or `plainmq group TOPIC GROUP --resume`?"),
        (["delete", "x"], "`plainmq --help` lists the commands"),
        (["purg", "x", "--yes"], "`plainmq --help` lists the commands"),
        (["restart"], "`plainmq --help` lists the commands"),
        (["topcis"], "did you mean `plainmq topics`?"),
        (["pub", "x", "y"], "did you mean `plainmq publish`?"),
    ],
)
def test_an_unknown_command_is_answered_with_what_to_type(typed: list[str], meant: str) -> None:
    done = run(*typed)
    assert done.returncode == 2
    assert done.stderr.decode().endswith(f"Error: '{typed[0]}' is not a command; {meant}\n")


def test_no_word_is_answered_with_a_command_that_cannot_be_taken_back() -> None:
    names = [command.name or "" for command in COMMANDS]
    slips = [f"{name[:at]}{other}{name[at + 1 :]}" for name in names for at in range(len(name)) for other in ("", "x")]
    for word in {*WORDS, *slips} - {*names}:
        assert suggestion(word, names, SYNONYMS) not in IRREVERSIBLE


def test_every_suggestion_is_a_command_with_these_options() -> None:
    for meant, separator in product(SYNONYMS.values(), ["` or `plainmq "]):
        for line in meant.split(separator):
            name, *rest = line.split()
            command = main.commands[name]
            options = {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            assert {word for word in rest if word.startswith("-")} <= options, line


def test_no_option_is_answered_with_one_that_cannot_be_taken_back() -> None:
    for typed in (["token", "x", "--renew"], ["token", "x", "--replace"], ["purge", "x", "--ye"]):
        done = run(*typed)
        assert done.returncode == 2
        assert not [option for option in (b"--revoke", b"--yes") if option in done.stderr]
    assert b"Did you mean '--pause'?" in run("topic", "x", "--puase").stderr
