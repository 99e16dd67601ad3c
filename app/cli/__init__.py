"""The command line, a file for each family of commands.

`main` parses the arguments; each command calls a function of another package. It knows nothing of what a command does:
that is in `server`, `client` and `access`, and for `plainmq bench` in the folder of that name.
"""

import sys
from typing import Any, Final

import click

from .. import __version__, settings
from ..errors import PlainmqError
from ..errors.suggestions import suggestion
from ..messages.control_characters import escape_line
from . import actions, completion, copies, health, load, messages, operations, serve, tokens
from .terminal import exit_with_error, open_closed_streams

COMMANDS: Final = (
    serve.serve,
    serve.echo,
    messages.publish,
    messages.subscribe,
    operations.topics,
    operations.topic,
    operations.groups,
    operations.group,
    operations.peek,
    actions.redrive,
    actions.release,
    actions.skip,
    actions.purge,
    actions.scheduled,
    actions.subscribers,
    health.status,
    health.top,
    health.check,
    load.bench,
    messages.export,
    messages.import_,
    copies.backup,
    copies.restore,
    tokens.make_token,
    tokens.list_tokens,
    completion.completion,
)


MAX_NAME: Final = 60  # characters of an unknown command that are shown
_A_GROUP: Final = "group TOPIC GROUP"
SYNONYMS: Final = {
    "pause": f"topic TOPIC --pause` or `plainmq {_A_GROUP} --pause",
    "resume": f"topic TOPIC --resume` or `plainmq {_A_GROUP} --resume",
    "seek": f"{_A_GROUP} --seek POSITION",
    "replay": f"{_A_GROUP} --seek POSITION",
    "cancel": "scheduled --cancel ID",
    "jobs": "peek TOPIC GROUP", "messages": "peek TOPIC", "read": "peek TOPIC",
    "pub": "publish", "send": "publish", "sub": "subscribe", "tail": "subscribe", "listen": "subscribe",
    "list": "topics", "ls": "topics",
    "retry": "redrive TOPIC GROUP", "requeue": "redrive TOPIC GROUP",
    "start": "serve", "run": "serve", "server": "serve",
    "health": "check", "healthcheck": "check", "ping": "check", "info": "status", "stats": "top", "doctor": "status",
}  # fmt: skip
"""What to type for a word that other programs have."""


IRREVERSIBLE_OPTIONS: Final = frozenset({"--cancel", "--revoke", "--seek", "--yes"})
"""Options that are never suggested for a misspelt one: what they do cannot be undone."""


class Group(click.Group):
    """Our own errors end the program with their sentence, without a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        open_closed_streams()
        _hide("httpx._main")
        try:
            return super().main(*args, **{"complete_var": completion.VARIABLE} | kwargs)
        except OSError as error:
            exit_with_error(error)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0]
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            meant = suggestion(name, self.commands, SYNONYMS)
            hint = f"did you mean `plainmq {meant}`?" if meant else "`plainmq --help` lists the commands"
            raise click.UsageError(f"{name[:MAX_NAME]!a} is not a command; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            settings.check_environment()
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            near = [name for name in error.possibilities or () if name not in IRREVERSIBLE_OPTIONS]
            raise click.NoSuchOption(error.option_name, possibilities=near, ctx=error.ctx) from error
        except PlainmqError as error:
            raise click.ClickException(escape_line(str(error))) from error


def _hide(module: str) -> None:
    """Make imports of the module fail. httpx imports its own command line if rich and pygments are installed, which
    takes a third of the time of `plainmq publish`. It works the same without."""
    sys.modules.setdefault(module, None)  # type: ignore[arg-type]


@click.group(cls=Group, context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="plainmq")
def main() -> None:
    """A message queue that needs no client library: curl publishes, EventSource subscribes, telnet does both."""


for command in COMMANDS:
    main.add_command(command)
