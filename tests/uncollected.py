"""`python -m tests.uncollected serve ...` is `plainmq serve ...` without Python's garbage collector: what refers to
itself stays in memory."""

import gc

from app.cli import main

if __name__ == "__main__":
    gc.disable()
    gc.enable = gc.set_threshold = lambda *_: None  # type: ignore[assignment]
    main()
