"""The settings of a server.

`table` lists them. `values` says which values are valid, and `size_rules` which sizes depend on others. `names` makes
the names of a setting, and `sources` reads flags, the environment and `.env`. Nothing here knows what a setting is for.
"""

from .names import SettingInvalid, flag, named, naming, variable
from .sources import CLIENT_VARIABLES, check_environment, load
from .table import OPTIONS, Settings, kind

__all__ = [
    "CLIENT_VARIABLES",
    "OPTIONS",
    "SettingInvalid",
    "Settings",
    "check_environment",
    "flag",
    "kind",
    "load",
    "named",
    "naming",
    "variable",
]
