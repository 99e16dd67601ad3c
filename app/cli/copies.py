"""The commands that copy the file of the engine sqlite, and put a copy in its place."""

from pathlib import Path

import click

from .. import settings
from .terminal import copying, end_on_signals, tell

engine_option = click.option(
    "--engine", metavar="ENGINE", help="The server's, such as sqlite:///var/lib/plainmq/log.db.  [PLAINMQ_ENGINE]"
)


@click.command(short_help="Copy the file of the engine sqlite, while the server runs or not.")
@click.argument("copy", type=click.Path(path_type=Path))
@engine_option
def backup(copy: Path, engine: str | None) -> None:
    """Copy the file of the engine sqlite to COPY, while the server runs or not.

    It is a whole log of one moment, checked, in one file; publishing goes on meanwhile. What is there already is not
    overwritten.

    \b
    Exit status:
      0    copied
      1    not copied; the sentence says why
      2    wrong usage
      130  Ctrl-C
      143  SIGTERM
    """
    end_on_signals()
    from ..storage.sqlite.backup import backup

    with copying() as progress:
        count = backup(_store(engine), copy, progress)
    tell(f"messages copied to {copy}: {count}")


@click.command(short_help="Put a copy that `plainmq backup` made in the place of the file.")
@click.argument("copy", type=click.Path(path_type=Path))
@engine_option
@click.option("--replace", is_flag=True, help="Also where there is a log already, which is lost then.")
def restore(copy: Path, engine: str | None, replace: bool) -> None:
    """Put COPY, which `plainmq backup` has made, in the place of the engine's file.

    The server must be stopped. When it starts again, a new epoch begins, because what came after the copy is gone: the
    ids up to there stay good, and who comes back with a later one is told of a gap.

    \b
    Exit status:
      0    it is in its place
      1    nothing was changed; the sentence says why
      2    wrong usage
      130  Ctrl-C
      143  SIGTERM
    """
    end_on_signals()
    from ..storage.sqlite.backup import restore

    path = _store(engine)
    with copying() as progress:
        count = restore(copy, path, replace, progress)
    tell(f"messages restored to {path}: {count}")


def _store(engine: str | None) -> Path:
    """The file of this engine, or of the one that `plainmq serve` would take."""
    from ..server import build

    return build.store_path(settings.load({"engine": engine}).engine)
