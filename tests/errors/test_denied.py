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


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can give a folder away")
@pytest.mark.parametrize(
    "flags",
    [("serve", "--auth", "required"), ("serve", "--engine", "sqlite:FOLDER/log.db"), ("token", "x", "--all"),
     ("serve", "--auth", "required", "--data-dir", "FOLDER/deep/er")],
)  # fmt: skip
def test_an_error_about_a_folder_of_another_user_names_both_user_ids(theirs: Path, flags: tuple[str, ...]) -> None:
    ports = ["--port", "0", "--tcp-port", "0"] if "serve" in flags else []
    done = subprocess.run(
        [*LIKE_ANYBODY, *PROGRAM, *(flag.replace("FOLDER", str(theirs)) for flag in flags), *ports],
        cwd=ROOT, capture_output=True,
        text=True, timeout=DEADLINE, check=False,
        env=environment(None) | ({} if "--data-dir" in flags else {"PLAINMQ_DATA_DIR": str(theirs)}),
    )  # fmt: skip
    assert done.returncode == 1
    whose = f"({theirs} belongs to user {USER}, and this is user 0: chown 0 {theirs})"
    assert f"Permission denied {whose}" in done.stderr
    assert "Traceback" not in done.stderr


def test_our_own_errors_are_reported_without_an_error_number(tmp_path: Path) -> None:
    assert reason(tmp_path, PermissionError(13, "Permission denied")) == "Permission denied"
    assert reason(tmp_path / "a" / "b", PermissionError(13, "Permission denied")) == "Permission denied"
    assert reason(Path("/proc/1/none"), OSError(28, "No space left on device")) == "No space left on device"
