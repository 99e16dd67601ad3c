"""What the pages show is what a reader will see: their blocks are run, the table of settings is made from the code.

The pages are the README and those that docs/README.md names; they are run in that order.

    <!-- runs in terminal N -->   before a block: it is that terminal's transcript. `$ command` starts a program; what
                                  follows is what it prints, or what is typed into it, see TYPED. A block without a
                                  command goes on where the terminal's last block stopped.
    <!-- runs in the shop ... -->  the same in a folder with a log that stays; with or without a server
    <!-- runs where a token is needed -->  the same with a server that has tokens
    <!-- banner -->               before what the server prints when it starts
    <!-- file NAME -->            before a script; both are run, and what they print follows `what NAME prints`
    <!-- settings -->             around the table, which `python -m tests.test_pages` writes anew

Ids, times and `retry:` differ from run to run and are masked; the ports are those of a server of the test's own.
"""

import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from threading import Timer

import pytest

from app.settings import OPTIONS, flag, variable
from tests.harness import DEADLINE, ROOT, ServerProcess, start_server
from tests.pages import DOCS, README, all_pages, pages

SETTINGS = DOCS / "settings.md"
PLAINMQ = ".venv/bin/plainmq"  # as the README installs it; run from here
TYPED = re.compile(r"\{'command':|(sub|pub) |quit$")
BLOCK = re.compile(r"<!-- ([^\n>]+) -->\n```\w*\n(.*?)```$", re.DOTALL | re.MULTILINE)
TABLE = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)
MASKS = {
    r"\b[a-z0-9]{8}-(?=\d+\b)": "EPOCH-",
    r"epoch [a-z0-9]{8}\b": "epoch EPOCH",
    r"retry: [1-9]\d{3,4}$": "retry: MS",
    r"\d{4}-\d\d-\d\dT[\d:.]+Z": "TIME",
    r"there are [\d.]+[KMG]iB": "there are N",
    r"starting .*": "starting",
    r"none in \S+/tokens": "none in FILE",
    r"room for \d+ connections": "room for N connections",
    r"\bpmq_[A-Za-z0-9_-]{43}": "TOKEN",
}

# A machine without telnet has this in its place: the same lines, and a socket.
TELNET = """
import os, select, socket, sys
print("Trying 127.0.0.1...", flush=True)
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print(f"Connected to {sys.argv[1]}.\\nEscape character is '^]'.", flush=True)
while True:
    ready, _, _ = select.select([0, sock], [], [])
    if 0 in ready:
        sock.sendall(os.read(0, 65536))
    if sock in ready:
        data = sock.recv(65536)
        if not data:
            break
        os.write(1, data)
print("Connection closed by foreign host.", flush=True)
"""


def blocks() -> list[tuple[str, str]]:
    """The marked blocks: (marker, text)."""
    return [(match[1], match[2]) for match in BLOCK.finditer(all_pages())]


def masked(line: str) -> str:
    for pattern, word in MASKS.items():
        line = re.sub(pattern, word, line)
    return line


class Program:
    """A program in a terminal: typed into line by line, read line by line, with a deadline."""

    def __init__(self, command: str, server: ServerProcess, folder: Path, token: str = "") -> None:
        command, _, target = command.partition(" > ")
        words = shlex.split(command)
        assert words[0] in ("curl", "telnet", PLAINMQ), f"the test does not run {command!r}"
        self.telnet = words[0] == "telnet"
        if words[0] == PLAINMQ:
            words = [sys.executable, "-m", "app", *words[1:]]
        words = [re.sub("^localhost:8000", f"localhost:{server.port}", word) for word in words]
        if self.telnet:
            assert words[1:] == ["localhost", "7777"]
            words = [*self._telnet(), "localhost", str(server.tcp_port)]
        curl = words[0] == "curl"
        if target:
            words = ["sh", "-c", f'exec "$@" > {target}', "sh", *words]
        stderr = subprocess.DEVNULL if curl else subprocess.STDOUT  # curl's is its progress, absent on terminals
        environment = {"PYTHONPATH": str(ROOT), "PLAINMQ_URL": server.url, "PLAINMQ_ENGINE": f"sqlite:{folder}/log.db"}
        environment |= {"PLAINMQ_DATA_DIR": str(folder)} | ({"PLAINMQ_TOKEN": token} if token else {})
        words = [word.replace("$PLAINMQ_TOKEN", token) for word in words]
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=folder,
            env=os.environ | environment,
        )
        self._folder = str(folder)
        self.last = ""  # line that it showed
        self._unread = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)

    @staticmethod
    def _telnet() -> list[str]:
        found = shutil.which("telnet")
        return [found] if found else [sys.executable, "-c", TELNET]

    @property
    def _stdout(self) -> int:
        assert self.process.stdout
        return self.process.stdout.fileno()

    def type(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def line(self) -> str | None:
        """The next line it prints; None when it has ended."""
        deadline = time.monotonic() + DEADLINE
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            assert left > 0, f"nothing came after {self._unread!r}"
            if self._selector.select(left):
                data = os.read(self._stdout, 65536)
                if not data:
                    rest, self._unread = self._unread, b""
                    return rest.decode() or None
                self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode().rstrip("\r")

    def shows(self, expected: str) -> None:
        seen = self.line()
        while self.telnet and seen is not None and re.match("Trying |telnet: ", seen):
            if expected.startswith("Trying "):
                return  # which addresses localhost has is the machine's affair
            seen = self.line()
        assert seen is not None, f"it ended before it showed {expected!r}"
        assert masked(seen.replace(self._folder, "/var/lib/plainmq")) == masked(expected)
        self.last = seen

    def settle(self) -> None:
        """Return when the server has done what was typed: the dialect that answers nothing does not say so."""
        self.type("ping")
        self.shows("OK pong")

    def ended(self) -> None:
        assert self.line() is None, "it shows more than the page"
        assert self.process.wait(DEADLINE) in (0, 1)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        self._selector.close()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):
                if pipe:
                    pipe.close()


class Terminal:
    def __init__(self, server: ServerProcess, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self.program: Program | None = None
        self._token = ""

    def play(self, transcript: str) -> None:
        fresh = transcript.startswith("$ ")
        for line in transcript.splitlines():
            if line.startswith("$ export PLAINMQ_TOKEN="):
                assert self.program
                self._token = self.program.last
                continue
            if line.startswith("$ "):
                self.end()
                self.program = Program(line.removeprefix("$ "), self._server, self._folder, self._token)
                continue
            assert self.program, "a transcript begins with a command"
            if fresh and self.program.telnet and TYPED.match(line):
                self.program.type(line)
                if line != "quit" and "command" in line:
                    self.program.settle()
            else:
                self.program.shows(line)
        assert self.program

    def end(self) -> None:
        """The program has ended by itself, and had no more to say."""
        if self.program:
            self.program.ended()
            self.program.close()
            self.program = None

    def close(self) -> None:
        if self.program:
            self.program.close()


@pytest.fixture
def fresh() -> Iterator[ServerProcess]:
    """A server nobody has published to."""
    with start_server() as process:
        yield process


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_terminals_show_what_the_pages_show(fresh: ServerProcess, tmp_path: Path) -> None:
    terminals: dict[str, Terminal] = {}
    try:
        for marker, text in blocks():
            if marker.startswith("runs in terminal "):
                terminals.setdefault(marker, Terminal(fresh, tmp_path)).play(text)
        assert set(terminals) == {"runs in terminal 1", "runs in terminal 2", "runs in terminal 3"}
        terminals["runs in terminal 3"].end()
    finally:
        for terminal in terminals.values():
            terminal.close()


def test_the_server_starts_with_the_banner_that_the_readme_shows(fresh: ServerProcess) -> None:
    (shown,) = (text for marker, text in blocks() if marker == "banner")
    seen = fresh.banner.replace(f":{fresh.port}", ":8000").replace(f"127.0.0.1 {fresh.tcp_port}", "127.0.0.1 7777")
    seen = seen.replace(f":{fresh.tcp_port}", ":7777")
    assert masked(seen) == masked(shown)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_log_in_a_file_is_kept_copied_and_put_back_as_the_page_shows(tmp_path: Path) -> None:
    shown = [(marker, text) for marker, text in blocks() if marker.startswith("runs in the shop ")]
    assert {marker for marker, _ in shown} == {"runs in the shop with a server", "runs in the shop without a server"}
    for marker, text in shown:
        with start_server("--engine", f"sqlite:{tmp_path}/log.db", tcp_port=0) as server:
            if marker.endswith("without a server"):
                server.stop()
            terminal = Terminal(server, tmp_path)
            try:
                terminal.play(text)
                terminal.end()
            finally:
                terminal.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_token_does_what_the_page_shows(tmp_path: Path) -> None:
    (shown,) = (text for marker, text in blocks() if marker == "runs where a token is needed")
    with start_server("--auth", "required", "--data-dir", str(tmp_path), tcp_port=0) as server:
        terminal = Terminal(server, tmp_path)
        try:
            terminal.play(shown)
            terminal.end()
        finally:
            terminal.close()


def test_a_terminal_that_shows_something_else_is_noticed(fresh: ServerProcess, tmp_path: Path) -> None:
    terminal = Terminal(fresh, tmp_path)
    telnet = "$ telnet localhost 7777\nTrying 127.0.0.1...\nConnected to localhost.\nEscape character is '^]'.\n"
    try:
        with pytest.raises(AssertionError, match="OK subscribed"):
            terminal.play(f"{telnet}sub foo\nOK subscribed to bar\n")
    finally:
        terminal.close()


def test_every_block_of_a_terminal_is_run() -> None:
    text = all_pages()
    assert text.count("```console") == sum(marker.startswith("runs ") for marker, _ in blocks())


def settings_table() -> str:
    """Each setting with its flag, its variable, its default, its bounds and its reason."""
    rows = [
        f"| `{flag(option.name)}` | `{variable(option.name)}` | `{option.default}` | "
        f"{option.metadata['values'].allowed} | {option.metadata['help']} |"
        for option in OPTIONS
    ]
    return "\n".join(["| flag | variable | default | allowed | what it is |", "|---|---|---|---|---|", *rows, ""])


def test_the_table_of_settings_is_that_of_the_code() -> None:
    (table,) = TABLE.findall(SETTINGS.read_text())
    assert table == settings_table(), "write it anew: python -m tests.test_pages"


def documents() -> list[Path]:
    """Every document of the repository."""
    folders = (".github", "app", "benchmarks", "docs", "openapi", "tests")
    return [*ROOT.glob("*.md"), *(document for folder in folders for document in (ROOT / folder).glob("**/*.md"))]


def anchors(document: Path) -> set[str]:
    """What its headings are called in a link, as GitHub makes the names."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "]", heading).lower()).replace(" ", "-")
        found.add(next(name for name in (name, *(f"{name}-{n}" for n in range(1, 100))) if name not in found))
    return found


def dead_links(document: Path) -> list[str]:
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


def test_every_link_of_every_document_leads_somewhere() -> None:
    assert README in documents()
    assert {
        str(document.relative_to(ROOT)): dead_links(document) for document in documents() if dead_links(document)
    } == {}


def test_a_link_that_leads_nowhere_is_noticed(tmp_path: Path) -> None:
    other, document = tmp_path / "other.md", tmp_path / "document.md"
    other.write_text("# Here & `there`\n\n```\n# not here\n```\n\n## Twice\n\n## Twice\n")
    good = "[a](other.md) [b](other.md#here--there) [c](other.md#twice-1) [d](#e) [e](https://example.org/x#y)\n\n# e\n"
    document.write_text(f"{good}[f](gone.md) [g](other.md#not-here) [h](other.md#twice-2) [i](#gone)\n")
    assert dead_links(document) == ["gone.md", "other.md#not-here", "other.md#twice-2", "#gone"]


def test_every_page_is_in_the_index_and_the_readme_is_short() -> None:
    shown = {page.name for page in pages()} | {"architecture.md"}
    assert {page.name for page in DOCS.glob("*.md")} == shown
    assert len(README.read_text().splitlines()) <= 150


def write_settings(page: Path) -> None:
    page.write_text(TABLE.sub(lambda _: settings_table(), page.read_text()))


def test_the_table_is_written_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "settings.md"
    page.write_text("before\n<!-- settings -->\nold\n<!-- /settings -->\nafter\n")
    write_settings(page)
    assert page.read_text() == f"before\n<!-- settings -->\n{settings_table()}<!-- /settings -->\nafter\n"


if __name__ == "__main__":
    write_settings(SETTINGS)


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the workers are made of curl and jq")
def test_the_job_queue_loses_nothing_when_a_worker_is_killed(fresh: ServerProcess, tmp_path: Path) -> None:
    shown = dict(blocks())
    begun = "until grep -q Ann shown; do sleep 0.05; done"  # in time on any machine
    for name in ("worker.sh", "jobs.sh"):
        script = shown[f"file {name}"].replace("localhost:8000", f"localhost:{fresh.port}").replace("sleep 0.5", begun)
        (tmp_path / name).write_text(script)
    expected = shown["what jobs.sh prints"].splitlines()
    with _session(["sh", "-c", "sh jobs.sh | tee shown"], tmp_path) as printed:
        lines = [line for line in islice(printed, len(expected) + 4) if not line.startswith("{")]
    jobs = {line.split(" (")[0].split(": ")[0] for line in lines}
    assert len(lines) == len(expected)
    assert {f"has done job {n}" for n in range(1, 5)} == {job.removeprefix("Bob ") for job in jobs if "has done" in job}
    assert "Ann begins job 1 (attempt 1)" in lines or "Ann begins job 2 (attempt 1)" in lines
    assert next(line for line in lines if "attempt 2" in line).startswith("Bob begins")


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the workers are made of curl and jq")
def test_a_worker_rests_while_there_is_no_server(tmp_path: Path) -> None:
    script = dict(blocks())["file worker.sh"].replace("localhost:8000", "localhost:1")
    (tmp_path / "worker.sh").write_text(script)
    worker = 'sleep() { echo "rests $1"; exit; }; . ./worker.sh'
    shown = subprocess.run(
        ["sh", "-c", worker], cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=DEADLINE, check=True
    )
    assert shown.stdout == "rests 1\n"


@contextmanager
def _session(command: list[str], folder: Path) -> Iterator[Iterator[str]]:
    """The lines that a program and what it has started print; all of them end with it."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    watchdog = Timer(2 * DEADLINE, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        assert process.stdout
        yield (line.rstrip("\n") for line in process.stdout)
    finally:
        watchdog.cancel()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
