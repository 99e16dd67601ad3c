"""What the pages show is what a reader will see: their blocks are run, the table of settings is made from the code.

The pages are the README and those that docs/README.md names. Each is run by itself, against servers of its own.

    <!-- server -->               before a `plainmq serve ...`: what follows on the page is run against it. Before the
                                  first one, and on a page without any, the server has the default settings
    <!-- runs in terminal N -->   before a block: it is that terminal's transcript. `$ command` starts a program; what
                                  follows is what it prints, or what is typed into it, see TYPED, or `^C`. A block
                                  without a command goes on where the terminal's last block stopped
    <!-- runs on screen N -->     the same, but what is shown is what a terminal of 80 columns shows, but for spaces
    <!-- runs without a server --> the same when the server has been stopped
    <!-- banner -->               before what the server prints when it starts
    <!-- file NAME -->            before a script, which a command runs; or a test, and `what NAME prints` follows
    <!-- test command -->         before what .ci/run runs
    <!-- not run: WHY -->         before a block of commands that no test runs
    <!-- settings -->             around the table, which `python -m tests.docs.test_pages` writes anew

Ids, times and `retry:` differ from run to run and are masked; ports, and the folder /var/lib/plainmq, are the test's.
"""

import os
import pty
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from html import unescape
from pathlib import Path
from threading import Timer

import pytest
from click.testing import CliRunner

from app.access.tokens import PREFIX
from app.cli import main
from app.settings import OPTIONS, flag, variable
from tests.docs.pages import DOCS, README, pages
from tests.harness import DEADLINE, ROOT, ServerProcess, start_server

SETTINGS, QUEUES = DOCS / "settings.md", DOCS / "queues.md"
TYPED = re.compile(
    r"""\{'command':|\{"command":(?!.*"index":)|(sub|unsub|pub|work|ack|nack|extend|auth) |(topics|ping|help|quit)$"""
)
BLOCK = re.compile(r"<!-- ([^\n>]+) -->\n```\w*\n(.*?)```$", re.DOTALL | re.MULTILINE)
EPOCH = "k3f9a2xq"  # on the pages
TABLE = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)
MASKS = {
    r"\b[a-z0-9]{8}-(?=d?\d+\b)": "EPOCH-",
    r"epoch [a-z0-9]{8}\b": "epoch EPOCH",
    r"retry: [1-9]\d{3,4}$": "retry: MS",
    r"\d{4}-\d\d-\d\dT[\d:.]+Z": "TIME",
    r"( B) +[\d.]+ ": r"\1 RATE ",
    r"\b(now|\d+(ms|s|m) ago)(?=$| )": "AGO",
    r"there are [\d.]+[KMG]iB": "there are N",
    r'"rate":[\d.]+': '"rate":N',
    r"starting .*": "starting",
    r"(none|its hash is) in \S+/tokens": r"\1 in FILE",
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


def blocks(*where: Path) -> list[tuple[str, str]]:
    """The marked blocks of these pages: (marker, text)."""
    return [(match[1], match[2]) for page in where for match in BLOCK.finditer(page.read_text())]


def masked(line: str) -> str:
    for pattern, word in MASKS.items():
        line = re.sub(pattern, word, line)
    return line


class Place:
    """Where a page's commands are run: a folder, the programs in front of PATH, and a server that can change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: ServerProcess | None = None
        self.token = ""
        self.epoch = EPOCH
        self._stack = ExitStack()
        programs = folder / "bin"
        programs.mkdir()
        telnet = shutil.which("telnet") or f"{sys.executable} -c {shlex.quote(TELNET)}"
        commands = {"plainmq": f"{sys.executable} -m app", "telnet": telnet, "python": sys.executable}
        for name, command in commands.items():
            (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            (programs / name).chmod(0o700)
        (folder / ".curlrc").write_text("silent\nshow-error\n")  # no progress, as on a terminal

    def start(self, command: str = "plainmq serve") -> None:
        self.stop()
        words = [self.here(word) for word in shlex.split(command)]
        words = [word.replace("sqlite:", f"sqlite:{self.folder}/") for word in words]
        assert words[:2] == ["plainmq", "serve"], f"the test does not run {command!r}"
        self.server = self._stack.enter_context(start_server(*words[2:], "--data-dir", str(self.folder)))
        epoch = re.search(r"epoch (\w+)", self.server.banner)
        self.epoch = epoch[1] if epoch else EPOCH

    def stop(self) -> None:
        """In good order: its file is served again."""
        if self.server:
            self.server.stop()
        self.close()

    def close(self) -> None:
        self._stack.close()
        self.server = None

    def here(self, text: str) -> str:
        text = text.replace("/var/lib/plainmq", str(self.folder)).replace(EPOCH, self.epoch)
        if self.server:
            text = re.sub(r"\blocalhost([: ])7777\b", rf"localhost\g<1>{self.server.tcp_port}", text)
            text = re.sub(r"\blocalhost:8000\b", f"localhost:{self.server.port}", text)
        return text

    def there(self, text: str) -> str:
        return text.replace(str(self.folder), "/var/lib/plainmq")

    def environment(self) -> dict[str, str]:
        programs = f"{self.folder}/bin:{os.environ['PATH']}"
        variables = {"PATH": programs, "PYTHONPATH": str(ROOT), "CURL_HOME": str(self.folder)}
        variables |= {"PLAINMQ_DATA_DIR": str(self.folder)} | ({"PLAINMQ_URL": self.server.url} if self.server else {})
        return os.environ | variables | ({"PLAINMQ_TOKEN": self.token} if self.token else {})


class Program:
    """A program in a terminal: typed into line by line, read line by line, with a deadline."""

    def __init__(self, command: str, place: Place, on_screen: bool = False) -> None:
        self.telnet = command == "telnet localhost 7777"
        self.endless = self.telnet or (command.startswith("curl -N") and not re.search("limit=|timeout=", command))
        ours, theirs = pty.openpty() if on_screen else os.pipe()
        if on_screen:
            termios.tcsetwinsize(theirs, (24, 80))
        self.process = subprocess.Popen(
            ["sh", "-c", place.here(command)],
            stdin=subprocess.PIPE,
            stdout=theirs,
            stderr=subprocess.STDOUT,
            cwd=place.folder,
            env=place.environment() | {"TERM": "dumb"},  # without colours
            start_new_session=True,
        )
        os.close(theirs)
        self._stdout = ours
        self._on_screen = on_screen
        self._place = place
        self.token = ""  # the last one that it showed
        self._unread = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)

    def type(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{self._place.here(line)}\n".encode())
        self.process.stdin.flush()

    def line(self) -> str | None:
        """The next line it prints; None when it has ended."""
        deadline = time.monotonic() + DEADLINE
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            assert left > 0, f"nothing came after {self._unread!r}"
            if self._selector.select(left):
                data = self._read()
                if not data:
                    rest, self._unread = self._unread, b""
                    return rest.decode() or None
                self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode().rstrip("\r")

    def _read(self) -> bytes:
        try:
            return os.read(self._stdout, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            return b""

    def shows(self, expected: str) -> None:
        seen = self.line()
        while self.telnet and seen is not None and re.match("Trying |telnet: ", seen):
            if expected.startswith("Trying "):
                return  # which addresses localhost has is the machine's affair
            seen = self.line()
        assert seen is not None, f"it ended before it showed {expected!r}"
        shown, page = (masked(line) for line in (self._place.there(seen), expected))
        if self._on_screen:  # columns are as wide as what is masked
            shown, page = (" ".join(line.split()) for line in (shown, page))
        assert shown == page
        if seen.startswith(PREFIX):
            self.token = seen

    def settle(self) -> None:
        """Return when the server has done what was typed: the dialect that answers nothing does not say so."""
        self.type("ping")
        self.shows("OK pong")

    def interrupt(self, number: int = signal.SIGINT) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def ended(self) -> None:
        if self.endless:
            self.interrupt(signal.SIGTERM)  # telnet hands a Ctrl-C on
        more = self.line()
        while more == ":":  # so that no proxy closes the stream
            more = self.line()
        assert more is None, f"it shows more than the page: {more}"
        self.process.wait(DEADLINE)

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE)
        self._selector.close()
        os.close(self._stdout)
        assert self.process.stdin
        with suppress(BrokenPipeError):
            self.process.stdin.close()


class Terminal:
    def __init__(self, place: Place, on_screen: bool = False) -> None:
        self._place = place
        self._on_screen = on_screen
        self.program: Program | None = None

    def play(self, transcript: str) -> None:
        fresh = transcript.startswith("$ ")
        for line in transcript.splitlines():
            if line.startswith("$ export PLAINMQ_TOKEN="):
                assert self.program
                self._place.token = self.program.token
            elif line.startswith("$ "):
                self.end()
                self.program = Program(line.removeprefix("$ "), self._place, self._on_screen)
            elif line == "^C":
                self._running().interrupt()
            elif fresh and self._running().telnet and TYPED.match(line):
                self._running().type(line)
                if line.startswith("{'"):
                    self._running().settle()
            else:
                self._running().shows(line)

    def _running(self) -> Program:
        assert self.program, "a transcript begins with a command"
        return self.program

    def end(self) -> None:
        """The program has ended by itself, and had no more to say."""
        if self.program:
            self.program.ended()
            self.close()

    def close(self) -> None:
        if self.program:
            self.program.close()
            self.program = None


@pytest.fixture
def fresh() -> Iterator[ServerProcess]:
    """A server nobody has published to."""
    with start_server() as process:
        yield process


PLAYED = [page for page in pages() if "<!-- runs " in page.read_text()]


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="curl or jq is not installed")
@pytest.mark.parametrize("page", PLAYED, ids=lambda page: page.stem)
def test_the_terminals_show_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    place, terminals = Place(tmp_path), dict[str, Terminal]()
    try:
        for marker, text in blocks(page):
            if marker == "server":
                place.start(text)
            elif marker == "runs without a server":
                place.stop()
            if marker.startswith(("runs ", "file ")) and not place.server and marker != "runs without a server":
                place.start()
            if marker.startswith("file "):
                (tmp_path / marker.removeprefix("file ")).write_text(place.here(text))
            if marker.startswith("runs "):
                terminals.setdefault(marker, Terminal(place, marker.startswith("runs on screen "))).play(text)
        assert terminals, "nothing was run"
        for terminal in terminals.values():
            terminal.end()
    finally:
        for terminal in terminals.values():
            terminal.close()
        place.close()


def test_the_server_starts_with_the_banner_that_the_readme_shows(fresh: ServerProcess) -> None:
    (shown,) = (text for marker, text in blocks(README) if marker == "banner")
    seen = fresh.banner.replace(f":{fresh.port}", ":8000").replace(f"127.0.0.1 {fresh.tcp_port}", "127.0.0.1 7777")
    seen = seen.replace(f":{fresh.tcp_port}", ":7777")
    assert masked(seen) == masked(shown)


def test_a_terminal_that_shows_something_else_is_noticed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.start()
    terminal = Terminal(place)
    telnet = "$ telnet localhost 7777\nTrying 127.0.0.1...\nConnected to localhost.\nEscape character is '^]'.\n"
    try:
        with pytest.raises(AssertionError, match="OK subscribed"):
            terminal.play(f"{telnet}sub foo\nOK subscribed to bar\n")
        terminal.close()
        terminal.play("$ printf 'one\\ntwo\\n'\none\n")
        with pytest.raises(AssertionError, match="more than the page"):
            terminal.end()
    finally:
        terminal.close()
        place.close()


def test_the_picture_shows_what_the_readme_shows() -> None:
    drawn = re.findall(r"<text [^>]*xml:space[^>]*>([^<]*)</text>", (DOCS / "terminals.svg").read_text())
    shown = [
        line for marker, text in blocks(README) if marker.startswith("runs ") for line in text.splitlines() if line
    ]
    assert sorted(map(unescape, drawn)) == sorted(shown)


RUN = re.compile("runs (in terminal|on screen) [1-9]|runs without a server|server|file .+|test command|not run: .+")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_every_command_of_a_page_is_run_or_says_why_not(page: Path) -> None:
    commands = re.findall(r"(.*)\n```(?:console|sh)\n", page.read_text())
    assert [line for line in commands if not RUN.fullmatch(line.removeprefix("<!-- ").removesuffix(" -->"))] == []


def test_every_option_that_a_page_names_is_there() -> None:
    known = set(re.findall(r"--[a-z][a-z-]*", "".join(shown_help(name) for name in ("", *main.commands))))
    known |= FOREIGN
    option = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
    named = {(page.name, found) for page in pages() for found in option.findall(page.read_text())}
    assert sorted((page, found) for page, found in named if found not in known) == []


FOREIGN = {
    "--data-binary",
    "--cacert",
    "--dist",
    "--rm",
    "--msg-timeout",
    "--build",
    "--docker",
    "--file",
    "--wait",
}  # of curl, pytest, docker and nsqd


def test_every_variable_and_metric_that_a_page_names_is_there() -> None:
    text = "\n".join(page.read_text() for page in pages())
    variables = {variable(option.name) for option in OPTIONS} | {"PLAINMQ_URL", "PLAINMQ_TOKEN", "PLAINMQ_CA"}
    assert set(re.findall(r"\bPLAINMQ_[A-Z][A-Z_]*", text)) - variables == set()
    metrics = re.findall(r"^\| `(\w+)` \|", (ROOT / "openapi" / "metrics.md").read_text(), re.MULTILINE)
    known = {*metrics, *(f"{name}{part}" for name in metrics for part in ("_sum", "_count", "_bucket"))}
    assert set(re.findall(r"\b(?:plainmq|process)_[a-z_]+", text)) - known == set()


def shown_help(command: str) -> str:
    return CliRunner().invoke(main, [*([command] if command else []), "--help"]).output


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
    assert table == settings_table(), "write it anew: python -m tests.docs.test_pages"


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
    shown = dict(blocks(QUEUES))
    begun = "until grep -q Ann shown; do sleep 0.05; done"  # in time on any machine
    for name in ("worker.sh", "jobs.sh"):
        script = shown[f"file {name}"].replace("localhost:8000", f"localhost:{fresh.port}").replace("sleep 0.5", begun)
        (tmp_path / name).write_text(script)
    with _session(["sh", "-c", "sh jobs.sh | tee shown"], tmp_path) as printed:
        lines = [masked(line) for line in printed]
    (ann,) = re.findall(r"^Ann begins job (\d)", "\n".join(lines), re.MULTILINE)
    swapped = {"1": ann, ann: "1"}  # on the page she has the first
    page = re.sub(r"(?<=job )\d", lambda match: swapped.get(match[0], match[0]), shown["what jobs.sh prints"])
    expected = [masked(line) for line in page.splitlines()]
    assert lines[:4] == expected[:4]
    assert sorted(lines) == sorted(expected)
    assert next(line for line in lines if "attempt 2" in line).startswith("Bob begins")


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the workers are made of curl and jq")
def test_a_worker_rests_while_there_is_no_server(tmp_path: Path) -> None:
    script = dict(blocks(QUEUES))["file worker.sh"].replace("localhost:8000", "localhost:1")
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
