"""Coverage-guided fuzzing of the parsers, the encoders and both ports (atheris, the extra `fuzz`).

    python -m tests.fuzz all --minutes 10      each target for ten minutes, one after the other
    python -m tests.fuzz literal --minutes 1   one target

An input may take SECONDS and MEBIBYTES, and raise nothing but a PlainmqError. The fuzzer starts with the seeds and
findings of the repository, which the ordinary tests replay. An input that fails is printed and appended to `findings/`:
fix the defect, and leave the input there. `--keep` adds some of the inputs that reached new code to the seeds.
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

SECONDS: Final = 10  # an input may take, on a machine with other work
MEBIBYTES: Final = 1_024
MAX_SEEDS: Final = 40  # of a target
MAX_SEED_SIZE: Final = 200  # bytes
_MINUS, _PLUS = (
    re.compile(r"^-"),
    re.compile(r"^\+"),
)  # argparse accepts no `-flag` of the fuzzer as a value, so it is written `+flag`


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Coverage-guided fuzzing.")
    parser.add_argument("target", choices=("all", *TARGETS))
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target")
    parser.add_argument("--keep", action="store_true", help="add inputs that reached new code to the seeds")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        _fuzz(options.target, options.child)
        return 0
    names = [*TARGETS] if options.target == "all" else [options.target]
    return max([_run(name, options.minutes, options.keep) for name in names])


def _run(name: str, minutes: float, keep: bool) -> int:
    """Fuzz one target in a process of its own. Returns its exit status."""
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
            small = [data for path in sorted(corpus.iterdir()) if len(data := path.read_bytes()) <= MAX_SEED_SIZE]
            count = max(MAX_SEEDS - len(inputs(SEEDS, name)), 0)
            add(SEEDS, name, random.sample(small, min(count, len(small))))
        print(
            f"== {name}: {f'exit status {status}' if status else 'no findings'}, {len(list(corpus.iterdir()))} inputs"
        )
    return status


def _child(name: str, flags: list[str]) -> int:
    command = [sys.executable, "-m", "tests.fuzz", name, "--child", *(_MINUS.sub("+", flag) for flag in flags)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _fuzz(name: str, flags: list[str]) -> None:
    import atheris  # an extra; imported in the child only, because it is large

    with atheris.instrument_imports(include=["app", "jwt"]):
        target = load(name)
    atheris.Setup([sys.argv[0], *(_PLUS.sub("-", flag) for flag in flags)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
