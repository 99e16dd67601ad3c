"""What all connections of a server share."""

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
    fast_path: FastPath
    request_limits: RequestLimits
    proxies: Proxies
    access: AccessLog
