"""The files of app/web/console/vendor, compared with the packages that they come from: `python -m tests.vendored`.

`--update` replaces them. Needs npm.
"""

import gzip
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from tests.harness import ROOT

VENDOR: Final = ROOT / "app" / "web" / "console" / "vendor"


class File(NamedTuple):
    package: str
    member: str
    name: str


LIT: Final = "lit-html@3.3.0"  # later ones leave a comment in the page for each item of `repeat` that goes (issue 5298)

FILES: Final = (
    File(LIT, "package/lit-html.js", "lit-html.js"),
    File(LIT, "package/directive.js", "directive.js"),
    File(LIT, "package/directive-helpers.js", "directive-helpers.js"),
    File(LIT, "package/directives/repeat.js", "directives/repeat.js"),
    File("swagger-ui-dist@5.35.0", "package/swagger-ui-bundle.js", "swagger-ui-bundle.js.gz"),
    File("swagger-ui-dist@5.35.0", "package/swagger-ui.css", "swagger-ui.css.gz"),
    File("swagger-ui-dist@5.35.0", "package/swagger-ui-bundle.js.LICENSE.txt", "swagger-ui-bundle.js.LICENSE.txt"),
)


def released(file: File, folder: Path) -> bytes:
    """The file as it was released, without the reference to a source map, which is not served."""
    packed = subprocess.run(
        ["npm", "pack", "--silent", file.package], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    with tarfile.open(folder / packed) as archive:
        member = archive.extractfile(file.member)
        assert member is not None
        lines = member.read().splitlines(keepends=True)
    content = b"".join(line for line in lines if not line.startswith(b"//# sourceMappingURL"))
    return gzip.compress(content, 9, mtime=0) if file.name.endswith(".gz") else content


def unpacked(name: str, content: bytes) -> bytes:
    return gzip.decompress(content) if name.endswith(".gz") else content


def main(update: bool) -> int:
    different = []
    with TemporaryDirectory() as folder:
        for file in FILES:
            content = released(file, Path(folder))
            if update:
                (VENDOR / file.name).parent.mkdir(exist_ok=True)
                (VENDOR / file.name).write_bytes(content)
            elif unpacked(file.name, (VENDOR / file.name).read_bytes()) != unpacked(file.name, content):
                different.append(file.name)
    print("\n".join(f"{name} differs from its release" for name in different) or "all files are as released")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main("--update" in sys.argv))
