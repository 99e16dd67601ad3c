"""The settings of a server.

`table` lists them. `values` says which values are valid, and `size_rules` which sizes depend on others. `names` makes
the names of a setting, and `sources` reads flags, the environment and `.env`. Nothing here knows what a setting is for.
"""

from .names import SettingInvalid, flag, named, naming, variable
from .sources import CLIENT_VARIABLES, Loaded, Source, check_environment, load, load_with_sources
from .table import OPTIONS, Settings, kind

__all__ = [
    "CLIENT_VARIABLES",
    "OPTIONS",
    "Loaded",
    "SettingInvalid",
    "Settings",
    "Source",
    "check_environment",
    "flag",
    "kind",
    "load",
    "load_with_sources",
    "named",
    "naming",
    "variable",
]
