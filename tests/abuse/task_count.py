"""plainmq, which answers a SIGUSR1 with how many tasks it has: a line on stderr."""

import asyncio
import signal
import sys
from typing import Any

from app.cli import main
from app.server import run

_serve = run._serve


async def _counted(*arguments: Any) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(f"tasks {len(asyncio.all_tasks())}", file=sys.stderr))
    await _serve(*arguments)


if __name__ == "__main__":
    setattr(run, "_serve", _counted)  # noqa: B010
    main(prog_name="plainmq")
