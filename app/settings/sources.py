"""Where the values of settings come from: flags, the environment, and the file `.env`."""

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from ..errors import OptionInvalid
from ..net.regular_file import read_regular
from .names import PREFIX, SettingInvalid, named, variable
from .table import OPTIONS, Settings, values_of

ENV_FILE: Final = ".env"
CLIENT_VARIABLES: Final = ("url", "token", "ca")
"""Variables of the commands that talk to a server; they are not settings of a server."""

_KNOWN: Final = [variable(name) for name in (*(option.name for option in OPTIONS), *CLIENT_VARIABLES)]
_SERVICE_LINK: Final = re.compile(r"(tcp|udp|sctp)://")
_SERVICE_NAME: Final = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT\w*|PORT_\d+_(TCP|UDP|SCTP)\w*)")


class Source(StrEnum):
    """Where the value of a setting comes from."""

    DEFAULT = "default"
    ENV_FILE = ".env"
    ENVIRONMENT = "environment"
    FLAG = "flag"


class Loaded(NamedTuple):
    """The settings, and by name the source of each."""

    settings: Settings
    sources: Mapping[str, Source]


def load(flags: Mapping[str, str | None] | None = None) -> Settings:
    """Flags override the environment, which overrides `.env`, which overrides the defaults. A flag of None is not set.

    Raises SettingInvalid with a sentence that names the setting.
    """
    return load_with_sources(flags).settings


def load_with_sources(flags: Mapping[str, str | None] | None = None) -> Loaded:
    """Load the settings as load() does, with the source of each. Raises SettingInvalid."""
    check_environment()
    texts: dict[str, str] = {}
    sources = {option.name: Source.DEFAULT for option in OPTIONS}
    for source, given in (
        (Source.ENV_FILE, _by_name(_read_env_file())),
        (Source.ENVIRONMENT, _by_name(os.environ)),
        (Source.FLAG, {name: value for name, value in (flags or {}).items() if value is not None}),
    ):
        texts |= given
        sources |= dict.fromkeys(given, source)
    return Loaded(Settings(**{name: _parsed(name, text) for name, text in texts.items()}), sources)


def _by_name(variables: Mapping[str, str]) -> dict[str, str]:
    """The settings among these variables."""
    names = {variable(option.name): option.name for option in OPTIONS}
    return {name: variables[written] for written, name in names.items() if written in variables}


def check_environment() -> None:
    """Raises SettingInvalid for an unknown variable with our prefix: ignoring a misspelt setting could leave a server
    open."""
    _check_names(os.environ, "in the environment")


def _read_env_file() -> dict[str, str]:
    """The variables in `.env`."""
    if not _has_env_file():
        return {}
    try:
        text = read_regular(Path(ENV_FILE))[0].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingInvalid(f"the file {ENV_FILE} is not UTF-8, at byte {error.start + 1}") from None
    except OSError as error:
        raise SettingInvalid(f"the file {ENV_FILE} cannot be read: {error.strerror}") from None
    if "\0" in text:  # another encoding, or no text at all
        place = len(text.partition("\0")[0].encode()) + 1
        raise SettingInvalid(f"the file {ENV_FILE} is not a text, at byte {place}: expected UTF-8")
    for number in _broken_lines(text):
        raise SettingInvalid(f"line {number} of the file {ENV_FILE} cannot be read: expected {PREFIX}NAME=VALUE")
    for number, name in _repeated_lines(text):
        raise SettingInvalid(f"line {number} of the file {ENV_FILE} sets {name} again: expected one line for it")
    found = {name: value for name, value in dotenv_values(stream=StringIO(text)).items() if value is not None}
    _check_names(found, f"in the file {ENV_FILE}")
    return found


def _has_env_file() -> bool:
    """Whether there is one, as far as we may look. Raises SettingInvalid for a folder, which container engines make of
    a file that they do not find; but Python's virtual environments often have that name."""
    if os.path.isdir(ENV_FILE):  # noqa: PTH112  # False without permission
        if not Path(ENV_FILE, "pyvenv.cfg").exists():
            raise SettingInvalid(f"{ENV_FILE} is a folder: expected a file, or a Python virtual environment")
        return False
    return os.path.lexists(ENV_FILE)


def _broken_lines(text: str) -> Iterator[int]:
    """The numbers of the lines that mention our prefix and set nothing."""
    for binding in parse_stream(StringIO(text)):
        ours = PREFIX.rstrip("_") in binding.original.string.upper()
        empty = binding.value is None and (binding.key or "").upper().startswith(PREFIX)
        if empty or (binding.error and ours):
            yield binding.original.line


def _repeated_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that set one of our variables again, by number and name."""
    seen = set[str]()
    for binding in parse_stream(StringIO(text)):
        if binding.key is not None and binding.key.startswith(PREFIX):
            if binding.key in seen:
                yield binding.original.line, binding.key
            seen.add(binding.key)


def _check_names(written: Mapping[str, str], where: str) -> None:
    for name, value in written.items():
        seen = "".join(filter(str.isprintable, name))  # not a byte order mark, nor a blank without width
        if seen.upper().startswith(PREFIX) and name not in _KNOWN and not _is_service_link(name, value):
            known = [variable.removeprefix(PREFIX) for variable in _KNOWN]
            near = get_close_matches(seen.upper().removeprefix(PREFIX), known, 1, 0.5)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else "`plainmq serve --help` lists all settings"
            shown = name if name == seen else ascii(name)
            raise SettingInvalid(f"{shown[:80]} {where} is not a setting: {hint}")


def _is_service_link(name: str, value: str) -> bool:
    """Kubernetes sets such variables in each pod, for each Service of its namespace."""
    return bool(_SERVICE_NAME.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_LINK.match(value)))


def _parsed(name: str, value: str) -> Any:
    values = values_of(name)
    try:
        return values.read(value)
    except OptionInvalid:
        hint = ""
        if _SERVICE_LINK.match(value):
            hint = "; Kubernetes sets it for a Service of that name, unless its pod has `enableServiceLinks: false`"
        raise SettingInvalid(f"{named(name)} is {value[:200]!a}: expected {values.expected}{hint}") from None
