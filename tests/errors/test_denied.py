"""A folder that belongs to another user, as in a container, is told with the numbers of both."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from app.errors.denied import reason
from tests.cli.commands import PROGRAM, environment
from tests.harness import DEADLINE, ROOT

USER = 10_001
LIKE_ANYBODY = [
    "setpriv",
    "--bounding-set",
    "-dac_override,-dac_read_search,-fowner",
]  # may do what the file's mode says


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A folder of another user, who lets us look at it and not write to it."""
    folder = Path(mkdtemp(prefix="plainmq-denied-"))
    folder.chmod(0o755)
    os.chown(folder, USER, USER)
    yield folder
    shutil.rmtree(folder)


MAY_GIVE_AWAY = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can give a folder away"
)


def refused(*flags: str, home: Path, **variables: str) -> str:
    """The error of a command that may do only what the modes of files say."""
    ports = ["--port", "0", "--tcp-port", "0"] if "serve" in flags else []
    done = subprocess.run(
        [*LIKE_ANYBODY, *PROGRAM, *flags, *ports], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE,
        check=False, env=environment(None) | {"HOME": str(home)} | variables,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@MAY_GIVE_AWAY
@pytest.mark.parametrize(
    "flags",
    [("serve", "--auth", "required"), ("serve", "--engine", "sqlite:FOLDER/log.db"), ("token", "x", "--all"),
     ("serve", "--auth", "required", "--data-dir", "FOLDER/deep/er")],
)  # fmt: skip
def test_an_error_about_a_folder_of_another_user_names_both_user_ids(
    theirs: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    variables = {} if "--data-dir" in flags else {"PLAINMQ_DATA_DIR": str(theirs)}
    error = refused(*(flag.replace("FOLDER", str(theirs)) for flag in flags), home=tmp_path, **variables)
    assert f"Permission denied ({theirs} belongs to user {USER}, and this is user 0: chown 0 {theirs})" in error


@MAY_GIVE_AWAY
@pytest.mark.parametrize(
    ("flags", "setting"),
    [((), "--data-dir (PLAINMQ_DATA_DIR)"), (("--auth", "required"), "--data-dir (PLAINMQ_DATA_DIR)"),
     (("--tokens", "FOLDER/tokens"), "--tokens (PLAINMQ_TOKENS)"),
     (("--tls-cert", "FOLDER/cert.pem"), "--tls-cert (PLAINMQ_TLS_CERT)")],
)  # fmt: skip
def test_a_server_whose_files_are_in_the_private_folder_of_another_user_says_so(
    theirs: Path, flags: tuple[str, ...], setting: str
) -> None:
    """As in a container with another user, which keeps the home of root."""
    theirs.chmod(0o700)
    error = refused("serve", *(flag.replace("FOLDER", str(theirs)) for flag in flags), home=theirs)
    assert f"Error: {setting}" in error
    assert f"cannot be read: Permission denied ({theirs} belongs to user {USER}, and this is user 0)" in error


def test_our_own_errors_are_reported_without_an_error_number(tmp_path: Path) -> None:
    assert reason(tmp_path, PermissionError(13, "Permission denied")) == "Permission denied"
    assert reason(tmp_path / "a" / "b", PermissionError(13, "Permission denied")) == "Permission denied"
    assert reason(Path("/proc/1/none"), OSError(28, "No space left on device")) == "No space left on device"
