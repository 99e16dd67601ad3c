"""The folder is called `app` in the repository, and the package `plainmq` where it is installed.

A wheel gets the folder under its new name (`sources` in pyproject.toml). An editable install cannot rename a folder, so
this hook adds a package `plainmq` that takes its modules from the folder; `app` stays importable beside it.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIM = '''"""plainmq, from the checkout in {folder!r}."""

from pathlib import Path

__path__ = [{folder!r}]
exec(compile(Path({folder!r}, "__init__.py").read_text(), {init!r}, "exec"))
'''


class EditableName(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            return
        folder = Path(self.root, "app")
        shim = Path(self.directory, "editable", "plainmq.py")
        shim.parent.mkdir(parents=True, exist_ok=True)
        shim.write_text(SHIM.format(folder=str(folder), init=str(folder / "__init__.py")))
        build_data["force_include_editable"] = {str(shim): "plainmq/__init__.py"}
