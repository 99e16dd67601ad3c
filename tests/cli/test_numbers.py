"""The numbers of commands are digits: nothing that only Python reads as a number."""

import click
import pytest

from app.cli import main
from app.cli.options import Decimal, Whole

OPTIONS = [
    (name, option)
    for name, command in main.commands.items()
    for option in command.params
    if isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
]
NONE = ["nan", "inf", "1e999", "1e2", "1_00", "+100", " 100", "\u0661\u0660\u0660", "0x64", "", "9" * 5_000]


@pytest.mark.parametrize("text", [*NONE, "100."])
@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=lambda part: getattr(part, "name", part))
def test_what_is_no_number_to_a_person_is_refused(command: str, option: click.Parameter, text: str) -> None:
    given = [text] if isinstance(option, click.Argument) else [option.opts[-1], text]
    with pytest.raises(click.BadParameter, match=r"is not a( whole)? number"):
        main.commands[command].make_context(command, given)


def test_there_are_numbers_of_both_kinds() -> None:
    assert {type(option.type) for _, option in OPTIONS} == {Whole, Decimal}


@pytest.mark.parametrize(
    "address", ["a..b:1", ":1", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:0", "127.0.0.1:" + "9" * 5_000]
)
def test_an_address_has_a_host_and_a_port_that_can_exist(address: str) -> None:
    with pytest.raises(click.BadParameter, match="is not an address"):
        main.commands["bench"].make_context("bench", ["--line-port", address])
