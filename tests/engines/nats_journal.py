"""A journal in a real NATS server, with a clock that the test moves."""

import atexit
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from secrets import token_hex

from app.storage.replicated.nats.address import Address
from app.storage.replicated.nats.journal import NatsJournal, Session, encode
from tests.nats_server import NatsServer, nats_server


class ClockedJournal(NatsJournal):
    """In JetStream, with the time of the test's clock in place of JetStream's own."""

    def __init__(self, address: Address, clock: Callable[[], float]) -> None:
        super().__init__(address, 1 << 20, new_node_pause=0.0)
        self._clock = clock

    def _stored(self, session: Session, link: bytes, data: bytes) -> bytes:
        return encode((link, session.life, data, self._clock()))


@cache
def shared_nats() -> NatsServer:
    """One for all tests of this process, each of which has a journal of its own there."""
    servers = ExitStack()
    atexit.register(servers.close)
    return servers.enter_context(nats_server())


def clocked_journal(clock: Callable[[], float]) -> NatsJournal:
    """A new one."""
    return ClockedJournal(Address((("127.0.0.1", shared_nats().port),), name=token_hex(8)), clock)
