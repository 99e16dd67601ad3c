"""What is installed is called `plainmq`, and nothing of it `app`: that name belongs to the user's own project."""

import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.harness import ROOT

OWN_APP = "import plainmq.main\nNAME = 'their own'\napp = plainmq.main.app\n"


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, check=False, cwd=cwd, capture_output=True, text=True, timeout=180)
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it, and what it depends on from here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    interpreter = folder / "bin" / "python"
    packages = Path(run(interpreter, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).strip())
    # The .pth files of a folder that a .pth file names, such as that of this checkout, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    run(sys.executable, "-m", "pip", "--python", interpreter, "install", "-q", "--no-deps", wheel, cwd=folder)
    return interpreter


def test_the_wheel_has_one_package_and_it_is_plainmq(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"plainmq"}
    sources = {path.relative_to(ROOT / "app").as_posix() for path in (ROOT / "app").rglob("*.py")}
    assert {name.removeprefix("plainmq/") for name in names if name.endswith(".py")} == sources
    assert "plainmq/py.typed" in names


def test_it_is_used_beside_a_project_that_has_an_app_of_its_own(python: Path, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text(OWN_APP)
    told = run(python, "-c", "import app, plainmq.main; print(app.NAME, app.app is plainmq.main.app)", cwd=tmp_path)
    assert told == "their own True\n"


def test_nothing_called_app_is_installed(python: Path, tmp_path: Path) -> None:
    done = subprocess.run([python, "-c", "import app"], check=False, cwd=tmp_path, capture_output=True, text=True)
    assert "No module named 'app'" in done.stderr


def test_every_way_to_start_it_is_there(python: Path, tmp_path: Path) -> None:
    version = run(python.parent / "plainmq", "--version", cwd=tmp_path)
    assert run(python, "-m", "plainmq", "--version", cwd=tmp_path) == version


USER = """
from typing import assert_type

from plainmq import AsyncClient, Client, Job, LogFull, Message, Published, Scheduled, Stream


def use(client: Client) -> None:
    assert_type(client.publish("a", "x", ttl=5, event="e"), Published)
    assert_type(client.publish("a", b"x", delay="5s"), Scheduled)
    assert_type(client.subscribe(["a", "b.*"], on_gap=print), Stream[Message])
    for message in client.messages("a"):
        assert_type(message, Message)
    with client.work("a", "g") as jobs:
        for job in jobs:
            assert_type(job, Job)


async def use_async(client: AsyncClient) -> None:
    assert_type(await client.publish("a", "x"), Published)
    async with client.subscribe("a") as messages:
        async for message in messages:
            assert_type(message.data, bytes)


print(Client.__module__, issubclass(LogFull, Exception))
"""
SLIPS = """
from plainmq import Client, Cleint


def use(client: Client) -> None:
    client.publish("a", "x", evnt="e")
    client.publish("a", {"x": 1})
    client.subscribe("a").data
"""


def mypy(python: Path, program: Path) -> list[str]:
    """The lines that a user's strict mypy complains about."""
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        python,
        "--cache-dir",
        "mypy",
        program,
    ]
    done = subprocess.run(command, check=False, cwd=program.parent, capture_output=True, text=True, timeout=180)
    return re.findall(r"^\w+\.py:(\d+): error", done.stdout, re.MULTILINE)


def test_a_program_uses_the_client_with_types(python: Path, tmp_path: Path) -> None:
    program, slips = tmp_path / "program.py", tmp_path / "slips.py"
    program.write_text(USER)
    slips.write_text(SLIPS)
    assert run(python, program, cwd=tmp_path) == "plainmq.client.sync.client True\n"
    assert mypy(python, program) == []
    assert list(dict.fromkeys(mypy(python, slips))) == ["2", "6", "7", "8"]


def test_a_checkout_that_is_installed_has_both_names() -> None:
    both = "import app, plainmq; print(app.__version__ == plainmq.__version__, app.__path__[0] == plainmq.__path__[0])"
    assert run(sys.executable, "-c", both, cwd=ROOT) == "True True\n"
