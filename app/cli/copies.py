"""The commands `plainmq backup` and `plainmq restore`, for the file of the engine sqlite."""

from pathlib import Path

import click

from .. import settings
from .options import exit_status, path
from .terminal import copy_progress, end_on_signals, report

engine_option = click.option(
    "--engine",
    metavar="ENGINE",
    help="The server's engine, such as sqlite:///var/lib/plainmq/log.db.  [PLAINMQ_ENGINE]",
)


@click.command(short_help="Copy the file of the engine sqlite. The server may run.")
@click.argument("copy", type=path, metavar="COPY")
@engine_option
@exit_status({0: "copied", 1: "not copied; a sentence says why", 3: None})
def backup(copy: Path, engine: str | None) -> None:
    """Copy the file of the engine sqlite to COPY. The server may run, and publishing continues meanwhile.

    The copy is one file with the whole log as it was at one moment, and its integrity is checked. An existing file is
    not overwritten.
    """
    end_on_signals()
    from ..storage.sqlite.backup import backup

    store = _store(engine)
    with copy_progress() as progress:
        count = backup(store, copy, progress)
    report(f"messages copied to {copy}: {count}")


@click.command(short_help="Replace the engine's file by a copy of `plainmq backup`.")
@click.argument("copy", type=path, metavar="COPY")
@engine_option
@click.option("--replace", is_flag=True, help="Replace an existing log, which is lost.")
@exit_status({0: "restored", 1: "nothing was changed; a sentence says why", 3: None})
def restore(copy: Path, engine: str | None, replace: bool) -> None:
    """Replace the file of the engine sqlite by COPY, which `plainmq backup` made.

    The server must be stopped. When it starts again, a new epoch begins, because messages published after the copy are
    lost. Ids of messages in the copy stay valid. A subscriber that resumes after a later id gets a gap.
    """
    end_on_signals()
    from ..storage.sqlite.backup import restore

    store = _store(engine)
    with copy_progress() as progress:
        count = restore(copy, store, replace, progress)
    report(f"messages restored to {store}: {count}")


def _store(engine: str | None) -> Path:
    """The file of this engine; None: of the engine that `plainmq serve` would use."""
    from ..server import places

    return places.store_path(settings.load({"engine": engine}).engine)
