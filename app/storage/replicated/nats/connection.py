"""A connection to NATS: requests are sent, and each gets its answer.

nats-py connects, logs in, and reads and writes. It never reconnects: what was sent to one life of a server must not
reach the next one before the log there is looked at.
"""

import asyncio
import ssl
from asyncio import Future, Task, create_task
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from random import sample
from time import monotonic
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from ...unusable import StoreUnusable
from ..journal import JournalLost
from .address import Address, Tls

CLOSE_TIMEOUT: Final = 1.0  # seconds for the last bytes: a server that has stopped takes none
STATUS: Final = "Status"  # the header of an answer that the server makes by itself
NO_RESPONDERS: Final = "503"

OnAnswer = Callable[[Msg | JournalLost], None]


class NoResponders(JournalLost):
    """Nobody has taken the request: nothing was done."""


class Connection:
    def __init__(self, address: Address, timeout: float) -> None:
        self._address, self._timeout = address, timeout
        self._client = Client()
        self._requests = 0
        self._waiting: dict[int, tuple[float, OnAnswer]] = {}  # since when; by number, in order
        self._writing: set[Task[None]] = set()
        self._closing: Task[None] | None = None
        self._lost: JournalLost | None = None
        self._connecting = True
        self.patience = timeout
        """Seconds for an answer to ask()."""
        self.on_lost: Callable[[], None] = lambda: None

    # Connecting

    async def open(self, host: str, port: int) -> None:
        """Raises JournalLost, StoreUnusable."""
        try:
            await self._connect(host, port)
            self._connecting = False
            self._check_tls(host)
            inbox = self._client.new_inbox()
            self._prefix = f"{inbox}."
            await self._client.subscribe(f"{inbox}.*", cb=self._on_answer)
        except BaseException as error:
            self.lose(JournalLost("the connection has failed"))
            await self.closed()
            raise self._explained(error, host, port) from None

    async def _connect(self, host: str, port: int) -> None:
        address = self._address
        login: dict[str, Any] = {
            "user": partial(self._secret, address.user, host) if address.user else None,
            "password": partial(self._secret, address.password, host) if address.user else None,
            "token": partial(self._secret, address.token, host) if address.token else None,
            "user_credentials": address.credentials or None,
        }
        await self._client.connect(
            f"nats://[{host}]:{port}" if ":" in host else f"nats://{host}:{port}",
            name=f"plainmq {address.name}", allow_reconnect=False, connect_timeout=self._timeout,
            error_cb=self._on_error, closed_cb=self._on_closed, tls=await _context(address.tls),
            pending_size=0, **login,
        )  # fmt: skip

    def _secret(self, secret: str, host: str) -> str:
        """A server that pretends not to speak TLS gets no secret."""
        self._check_tls(host)
        return secret

    def _check_tls(self, host: str) -> None:
        if self._address.tls is not None and not self.info.get("tls_required"):
            raise StoreUnusable(f"NATS at {host} does not speak TLS: expected it, as the address begins with nats+tls")

    def _explained(self, error: BaseException, host: str, port: int) -> BaseException:
        place = f"NATS at {host}:{port}"
        if isinstance(error, nats.errors.TimeoutError | TimeoutError):
            return JournalLost(f"{place} does not answer")
        if isinstance(error, FileNotFoundError | PermissionError | nats.errors.InvalidUserCredentialsError):
            return StoreUnusable(f"the credentials or certificates for {place} cannot be read: {error}")
        if isinstance(error, nats.errors.Error) and "uthorization" in str(error):
            return StoreUnusable(f"{place} refuses the user: {error}")
        if isinstance(error, nats.errors.Error | OSError):
            return JournalLost(f"{place} cannot be reached: {error}")
        return error

    @property
    def info(self) -> Mapping[str, Any]:
        """What the server says of itself."""
        info: Mapping[str, Any] = self._client._server_info  # nats-py offers only parts of it
        return info

    @property
    def max_payload(self) -> int:
        return int(self._client.max_payload)

    # Asking

    def send(self, on_answer: OnAnswer, subject: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Requests are sent in their order. Raises JournalLost: nothing was sent."""
        self._check()
        self._requests += 1
        self._waiting[self._requests] = (monotonic(), on_answer)
        self._write(subject, body, f"{self._prefix}{self._requests}", headers)

    def publish(self, subject: str) -> None:
        """An empty message without an answer."""
        self._write(subject, b"", "", None)

    def _write(self, subject: str, body: bytes, reply: str, headers: dict[str, str] | None) -> None:
        task = create_task(self._client.publish(subject, body, reply, headers))
        self._writing.add(task)
        task.add_done_callback(self._on_written)

    def _on_written(self, task: "Task[None]") -> None:
        self._writing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.lose(JournalLost(f"NATS takes no more: {error}"))

    async def ask(self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Msg:
        """Raises JournalLost, NoResponders."""
        future: Future[Msg] = asyncio.get_running_loop().create_future()
        self.send(partial(_settle, future), subject, body, headers)
        try:
            async with asyncio.timeout(self.patience):
                answer = await future
        except TimeoutError:
            raise JournalLost(f"NATS at {self._address} does not answer") from None
        if is_status(answer, NO_RESPONDERS):
            raise NoResponders(f"JetStream at {self._address} does not serve {subject}")
        return answer

    async def subscribe(self, on_message: Callable[[Msg], None]) -> str:
        """Call `on_message` for each message to the subject that is returned. Raises JournalLost."""
        self._check()
        subject: str = self._client.new_inbox()

        async def take(message: Msg) -> None:  # nats-py awaits it
            on_message(message)

        await self._client.subscribe(subject, cb=take, pending_msgs_limit=-1, pending_bytes_limit=-1)
        return subject

    def waits_longer_than(self, seconds: float) -> bool:
        """Whether the server owes an answer for so long."""
        since, _ = next(iter(self._waiting.values()), (monotonic(), None))
        return monotonic() - since > seconds

    # The end

    def _check(self) -> None:
        if self._lost is not None:
            raise JournalLost(str(self._lost))

    @property
    def is_lost(self) -> bool:
        return self._lost is not None

    def lose(self, error: JournalLost) -> None:
        """Give the connection up. Idempotent."""
        if self._lost is not None:
            return
        self._lost, self._connecting = error, False
        for task in self._writing:
            task.cancel()
        self._closing = create_task(self._close())
        waiting, self._waiting = [*self._waiting.values()], {}
        for _, on_answer in waiting:
            on_answer(error)
        self.on_lost()

    async def _close(self) -> None:
        with suppress(TimeoutError, nats.errors.Error, OSError, AssertionError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._client.close()

    async def closed(self) -> None:
        """Wait for the end of a connection that was given up."""
        if self._closing is not None:
            await asyncio.wait([self._closing, *self._writing], timeout=2 * CLOSE_TIMEOUT)

    # Called by nats-py

    async def _on_answer(self, message: Msg) -> None:
        _, on_answer = self._waiting.pop(int(message.subject[len(self._prefix) :]), (0.0, None))
        if on_answer is not None:
            on_answer(message)

    async def _on_error(self, error: Exception) -> None:
        if self._connecting:
            raise error  # or nats-py tries again, for minutes
        if "permissions violation" in str(error):
            self.lose(JournalLost(f"NATS at {self._address} refuses: {str(error).removeprefix('nats: ')}"))

    async def _on_closed(self) -> None:
        self.lose(JournalLost("the server has closed the connection"))


async def connect(address: Address, seconds: float) -> Connection:
    """To one of the servers. Raises JournalLost, StoreUnusable."""
    lost = JournalLost("no server was tried")
    for host, port in sample(address.hosts, len(address.hosts)):
        connection = Connection(address, seconds)
        try:
            await connection.open(host, port)
        except JournalLost as error:
            lost = error
        else:
            return connection
    raise lost


async def _context(tls: Tls | None) -> ssl.SSLContext | None:
    return None if tls is None else await asyncio.to_thread(_read_certificates, tls)


def _read_certificates(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca or None)
    if tls.cert:
        context.load_cert_chain(tls.cert, tls.key or None)
    return context


def is_status(message: Msg, status: str) -> bool:
    return message.headers is not None and message.headers.get(STATUS) == status


def _settle(future: "Future[Msg]", answer: Msg | JournalLost) -> None:
    if future.done():
        return
    if isinstance(answer, JournalLost):
        future.set_exception(answer)
    else:
        future.set_result(answer)
