"""Completion in a shell: the command `plainmq completion`, and the names of topics and groups."""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import click

from .options import exit_status
from .terminal import end_on_signals, write

PROGRAM: Final = "plainmq"
VARIABLE: Final = "_PLAINMQ_COMPLETE"  # the shell sets it to ask for completions
SHELLS: Final = ("bash", "zsh", "fish")

_HARMLESS: Final = re.compile(r"[A-Za-z0-9_./@%+,-]+")

F = TypeVar("F", bound=Callable[..., Any])


def _topics(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from ..client import names

    return _harmless(names.topics(*_server(ctx), incomplete))


def _groups(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from ..client import names

    found = names.groups(*_server(ctx), ctx.params.get("topic") or "")
    return _harmless(name for name in found if name.startswith(incomplete))


def _server(ctx: click.Context) -> tuple[str, Any, Any]:
    """The server that the command line and the environment name so far."""
    return ctx.params.get("url") or "", ctx.params.get("token"), ctx.params.get("ca")


def _harmless(names: Iterable[str]) -> list[str]:
    """A shell takes a completion as if it had been typed: it would run a name such as `$(rm x)`."""
    return [name for name in names if _HARMLESS.fullmatch(name)]


topic_argument = click.argument("topic", shell_complete=_topics)
topics_argument = click.argument("topics", nargs=-1, required=True, metavar="TOPIC...", shell_complete=_topics)
pattern_argument = click.argument("pattern", required=False, shell_complete=_topics)


def group_argument(required: bool = True) -> Callable[[F], F]:
    return click.argument("group", required=required, shell_complete=_groups)


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
@exit_status({0: "printed", 1: "the output cannot be written; a sentence says why", 3: None})
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL: of commands, of options, and of the topics and groups of the server in
    PLAINMQ_URL, if it answers within a second.

    \b
      bash  echo 'eval "$(plainmq completion bash)"' >> ~/.bashrc
      zsh   echo 'eval "$(plainmq completion zsh)"' >> ~/.zshrc
      fish  plainmq completion fish > ~/.config/fish/completions/plainmq.fish

    Names with characters that a shell interprets are not completed.
    """
    end_on_signals()
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    script = ShellComplete.source(kind(ctx.find_root().command, {}, PROGRAM, VARIABLE))
    write(script.encode())
