"""Who serves the connections of one server: each of them knows one object, and looks nothing up for itself."""

import msgspec

from ...access.authenticator import Authenticator
from ...broker.broker import Broker
from ...telemetry.accesslog import AccessLog
from ..middleware.forwarded import Proxies
from .limits import RequestLimits
from .requests import FastPath


class ServerContext(msgspec.Struct, frozen=True):
    broker: Broker
    authenticator: Authenticator
    shortcuts: FastPath
    intake: RequestLimits
    proxies: Proxies
    access: AccessLog
