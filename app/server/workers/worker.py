"""A worker: a process that is a whole server, on sockets that it shares with others."""

import asyncio
import gc
import os
import signal
import sys
from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from logging import ERROR, WARNING
from multiprocessing.reduction import DupFd
from socket import socket
from typing import Any, Final

import msgspec
import uvloop

from ...broker.activity import activity_of
from ...broker.audience import AudienceQuery
from ...broker.broker import Broker
from ...broker.siblings import Question
from ...errors import PlainmqError
from ...fanout.presence import share_numbers
from ...settings import Loaded
from ...telemetry.log import LOG_WRITER, log_event, on_loop_error
from ...web.api.prometheus import families_of
from ..banner import Started
from ..build import Sockets
from ..role import Listening, Role
from ..serving import FAILED, GC_THRESHOLD, serve_on
from .channel import Channel
from .messages import Accept, Answer, Ask, Failed, FromWorker, Leaving, Merged, Ready, Reload, Stop, Tell, ToWorker

MERGE_TIMEOUT: Final = 3.0  # seconds: longer than the supervisor waits for the others
HELD: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a worker gets only when it has a session of its own: those of a terminal are for the supervisor."""


class SharedFile:
    """A file that a process which is started has open too."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _given, (DupFd(self.number),)


def _given(file: Any) -> SharedFile:
    return SharedFile(file.detach())


class Assignment(msgspec.Struct, frozen=True):
    """What a worker is given. `number`: its name for people, from 1. `turns`: see LogWriter.take_turns(). `quiet`:
    another worker shows the sentences for the user. `begun`: when the server was started, in Unix seconds."""

    number: int
    loaded: Loaded
    sockets: Sockets
    channel: socket
    turns: SharedFile
    quiet: bool
    begun: float


def work(assignment: Assignment) -> None:
    """The whole life of the process."""
    os.setsid()
    share_numbers(assignment.number - 1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
    settings = assignment.loaded.settings
    gc.set_threshold(GC_THRESHOLD)
    log = LOG_WRITER.writing(settings.log_format, settings.log_level, worker=assignment.number)
    with log, LOG_WRITER.taking_turns(assignment.turns.number):
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                status = runner.run(_work(assignment))
        except PlainmqError:  # the supervisor knows
            sys.exit(FAILED)
        except Exception as error:
            log_event("crashed", ERROR, error, code="internal_error")
            sys.exit(FAILED)
    if status:
        sys.exit(status)


async def _work(assignment: Assignment) -> int:
    """Returns the exit status."""
    asyncio.get_running_loop().set_exception_handler(on_loop_error)
    channel: Channel[FromWorker, ToWorker] = await Channel.open(assignment.channel, ToWorker)
    worker = Worker(assignment, channel)
    obeying = asyncio.create_task(worker.obey())
    try:
        return await serve_on(assignment.loaded, assignment.sockets, worker)
    except PlainmqError as error:
        channel.send(Failed(error.code, str(error)))
        raise
    finally:
        obeying.cancel()
        await channel.close()


async def _activity(broker: Broker, _about: bytes) -> bytes:
    return msgspec.msgpack.encode(activity_of(broker))


async def _audience(broker: Broker, about: bytes) -> bytes:
    query = msgspec.msgpack.decode(about, type=AudienceQuery)
    return msgspec.msgpack.encode(await broker.audience.page(query))


async def _metrics(broker: Broker, _about: bytes) -> bytes:
    return msgspec.msgpack.encode(families_of(broker, await broker.totals()))


_ANSWERS: Final[Mapping[Question, Callable[[Broker, bytes], Awaitable[bytes]]]] = {
    "activity": _activity,
    "audience": _audience,
    "metrics": _metrics,
}


class Worker(Role):
    """Its role in the server."""

    def __init__(self, assignment: Assignment, channel: Channel[FromWorker, ToWorker]) -> None:
        self.place = assignment.number - 1
        self.siblings = self
        self.begun = assignment.begun
        self._quiet = assignment.quiet
        self._channel = channel
        self._server: Listening | None = None
        self._numbers = count()
        self._asked: dict[int, Future[bytes]] = {}
        self._obey: Mapping[type, Callable[[Any, Listening], Awaitable[None]]] = {
            Accept: self._accept, Stop: self._stop, Reload: self._reload, Tell: self._tell,
        }  # fmt: skip

    def announce(self, text: str) -> None:
        if not self._quiet:
            super().announce(text)

    def listening(self, server: Listening, started: Started) -> None:
        self._server = server
        self._channel.send(Ready(started))

    def draining(self) -> None:
        self._channel.send(Leaving())

    async def merged(self, question: Question, own: bytes, about: bytes = b"") -> bytes:
        number = next(self._numbers)
        answer: Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._channel.send(Ask(number, question, own, about))
        try:
            async with asyncio.timeout(MERGE_TIMEOUT):
                return await answer
        except TimeoutError:  # the supervisor is stopped, or very busy
            return own
        finally:
            del self._asked[number]

    async def obey(self) -> None:
        """Do what the supervisor says. If it is gone, the worker ends too: it would keep the ports."""
        async for message in self._channel.messages():
            if isinstance(message, Merged):
                if (asked := self._asked.get(message.number)) is not None and not asked.done():
                    asked.set_result(message.data)
            elif self._server is not None:
                await self._obey[type(message)](message, self._server)
        log_event("the supervisor is gone", WARNING)
        if self._server is None:
            LOG_WRITER.close()
            os._exit(FAILED)
        self._server.stop()

    async def _accept(self, message: Accept, server: Listening) -> None:
        await server.accept_from(*message.places)

    async def _stop(self, _message: Stop, server: Listening) -> None:
        server.stop()

    async def _reload(self, _message: Reload, server: Listening) -> None:
        server.reload()

    async def _tell(self, message: Tell, server: Listening) -> None:
        self._channel.send(Answer(message.number, await _ANSWERS[message.question](server.broker, message.about)))
