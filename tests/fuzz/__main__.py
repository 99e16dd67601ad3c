"""Coverage-guided fuzzing (atheris, the extra `fuzz`): what our parsers and encoders do with what nobody thought of.

    python -m tests.fuzz all --minutes 10      each target for ten minutes, one after the other
    python -m tests.fuzz literal --minutes 1   one of them

Each input has some seconds and a gibibyte; only a PlainmqError may come of it. It begins with the seeds and the
findings of the repository, which the ordinary tests replay. An input that breaks a promise is shown, and appended to
`findings/`: mend what it found, and leave it there. `--keep` adds some of what reached new code to the seeds.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.fuzz.inputs import FINDINGS, SEEDS, add, inputs
from tests.fuzz.targets import MAX_LENGTH, TARGETS, load
from tests.harness import ROOT

SECONDS: Final = 10  # that an input may take, on a machine that does other things too
MEBIBYTES: Final = 1_024
KEPT: Final = 40  # seeds that a target may have, each of at most
KEPT_SIZE: Final = 200  # bytes
_MINUS, _PLUS = re.compile(r"^-"), re.compile(r"^\+")  # how a flag of the fuzzer's passes through our own


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Coverage-guided fuzzing.")
    parser.add_argument("target", choices=("all", *TARGETS))
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target")
    parser.add_argument("--keep", action="store_true", help="keep what reached new code as seeds")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        _fuzz(options.target, options.child)
        return 0
    names = [*TARGETS] if options.target == "all" else [options.target]
    return max([_run(name, options.minutes, options.keep) for name in names])


def _run(name: str, minutes: float, keep: bool) -> int:
    """One target in a process of its own; its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, found = Path(folder, "corpus"), Path(folder, "found")
        for part in (corpus, found):
            part.mkdir()
        for number, data in enumerate(inputs(SEEDS, name) + inputs(FINDINGS, name)):
            (corpus / f"seed-{number}").write_bytes(data)
        flags = [
            f"-max_total_time={minutes * 60:.0f}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEBIBYTES}",
            f"-max_len={MAX_LENGTH}", f"-artifact_prefix={found}/", "-print_final_stats=1", "-verbosity=0",
        ]  # fmt: skip
        print(f"== {name}", flush=True)
        status = _child(name, [*flags, str(corpus)])
        for path in found.iterdir():
            print(f"{name}: {path.name.partition('-')[0]}: {path.read_bytes()!r}")
            add(FINDINGS, name, [path.read_bytes()])
        if keep and not status:
            small = [data for path in sorted(corpus.iterdir()) if len(data := path.read_bytes()) <= KEPT_SIZE]
            room = max(KEPT - len(inputs(SEEDS, name)), 0)
            add(SEEDS, name, random.sample(small, min(room, len(small))))
        print(f"== {name}: {'good' if not status else f'ended with {status}'}, {len(list(corpus.iterdir()))} inputs")
    return status


def _child(name: str, flags: list[str]) -> int:
    command = [sys.executable, "-m", "tests.fuzz", name, "--child", *(_MINUS.sub("+", flag) for flag in flags)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _fuzz(name: str, flags: list[str]) -> None:
    import atheris  # only where the extra is installed, and in the child: it is heavy

    with atheris.instrument_imports(include=["app", "jwt"]):
        target = load(name)
    atheris.Setup([sys.argv[0], *(_PLUS.sub("-", flag) for flag in flags)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
