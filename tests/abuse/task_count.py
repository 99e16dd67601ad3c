"""`plainmq`, which writes the number of its tasks to standard error at each SIGUSR1."""

import asyncio
import signal
import sys

import uvloop

from app.cli import main

new_event_loop = uvloop.new_event_loop


def counting_event_loop() -> uvloop.Loop:
    loop = new_event_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(f"tasks {len(asyncio.all_tasks(loop))}", file=sys.stderr))
    return loop


if __name__ == "__main__":
    uvloop.new_event_loop = counting_event_loop
    main(prog_name="plainmq")
