"""Time and memory of a start of `plainmq serve --engine sqlite:FILE`, as the file grows.

    python -m benchmarks.startup [FOLDER]

The files are written by the engine's own code. The time of a start is from the start of the process to its first
answer, and the best of three is shown. It includes the start of Python: see the row of an empty file.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx

from app.log.state import LogStateMachine
from app.log.topic_log import Limits, Retention
from app.messages.message import Draft, Envelope
from app.storage.sqlite.transactions import Store
from tests.harness import whole

ROUNDS: Final = 3
BATCH: Final = 1_000
BODY: Final = b"x" * 100
PORT: Final = 18_321
LIMITS: Final = Limits(Retention(10_000_000, 1 << 40, 1e9), total_bytes=1 << 50, topics=1_000_000)

Prepare = Callable[[LogStateMachine, float], None]


@contextmanager
def opened(path: Path) -> Iterator[Store]:
    store = Store(path, "full", LIMITS, "run")
    try:
        yield store
    finally:
        store.close()


def fill(path: Path, messages: int, topics: int, ttl: float | None, prepare: Prepare) -> None:
    now = time.time()
    with opened(path) as store:
        store.commit(lambda core: prepare(core, now))
        for batch in range(messages // BATCH):
            drafts = [Draft(Envelope(f"t.{batch % topics}", ttl=ttl), [BODY] * BATCH)]
            store.commit(lambda core, drafts=drafts: core.append(drafts, now))  # type: ignore[misc]


def start(path: Path) -> tuple[float, int]:
    """Seconds to the first answer, and bytes of resident memory at that time."""
    flags = ["--engine", f"sqlite:{path}", "--port", str(PORT), "--tcp-port", "0", "--max-messages", "10000000"]
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "app", "serve", *flags], stderr=subprocess.PIPE, text=True)  # noqa: S603
    try:
        assert process.stderr
        for line in process.stderr:
            if "subscribe" in line:
                break
        httpx.get(f"http://127.0.0.1:{PORT}/topics?match=t.0").raise_for_status()
        seconds = time.perf_counter() - begin
        status = Path(f"/proc/{process.pid}/status").read_text()
        resident = int(status.split("VmRSS:")[1].split()[0]) << 10
    finally:
        process.terminate()
        process.wait()
    return seconds, resident


def no_group(_core: LogStateMachine, _now: float) -> None: ...


def with_group(core: LogStateMachine, now: float) -> None:
    whole(core.group_admin.configure("t.0", "g", {}, None, now))


ROWS: Final[dict[str, tuple[int, int, float | None, Prepare]]] = {
    "empty": (0, 1, None, no_group),
    "100,000 messages": (100_000, 1, None, no_group),
    "1,000,000 messages": (1_000_000, 1, None, no_group),
    "1,000,000 in 1,000 topics": (1_000_000, 1_000, None, no_group),
    "1,000,000 that a group has not acked": (1_000_000, 1, None, with_group),
    "1,000,000 with a ttl": (1_000_000, 1, 1e6, no_group),
}


def measure(folder: Path) -> None:
    print(f"{'':36}{'file':>9}{'start':>9}{'memory':>9}")  # noqa: T201
    for name, row in ROWS.items():
        path = folder / "log.db"
        fill(path, *row)
        size = path.stat().st_size
        seconds, resident = min(start(path) for _ in range(ROUNDS))
        print(f"{name:36}{size / 1e6:6.0f} MB{seconds:7.2f} s{resident / 1e6:6.0f} MB", flush=True)  # noqa: T201
        for file in folder.glob("log.db*"):
            file.unlink()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as temporary:
            measure(Path(temporary))
