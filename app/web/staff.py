"""Who serves the connections of one server: each of them knows one object, and looks nothing up for itself."""

import msgspec

from ..access.doorkeeper import Doorkeeper
from ..broker import Broker
from ..telemetry.accesslog import AccessLog
from .forwarded import Proxies
from .intake import Intake
from .shortcut import Shortcuts


class Staff(msgspec.Struct, frozen=True):
    broker: Broker
    keeper: Doorkeeper
    shortcuts: Shortcuts
    intake: Intake
    proxies: Proxies
    access: AccessLog
