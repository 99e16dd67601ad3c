"""The two streams of a journal, and requests to them: what they must be like, and what is refused.

The log is in one; its subject has a random part, so that what a node sends to a stream that was deleted never reaches
the one that takes its place. Snapshots are in the other.
"""

from collections.abc import Iterator
from secrets import token_hex
from typing import Final

import msgspec

from ...unusable import StoreUnusable
from ..journal import JournalLost
from . import api
from .address import Address
from .connection import Connection, NoResponders

OLDEST: Final = (2, 11)  # the oldest version that we test with
_EXPECTED: Final = ("retention", "discard", "storage", "max_msgs", "max_age", "max_msgs_per_subject", "sealed")


class RequestRefused(JournalLost):
    """JetStream has answered with an error."""

    def __init__(self, error: api.ApiError) -> None:
        super().__init__(f"JetStream refuses a request: {error.description}")
        self.number = error.err_code


async def ask(
    connection: Connection, subject: str, request: msgspec.Struct | bytes = b"", headers: dict[str, str] | None = None
) -> api.Answer:
    """Raises JournalLost, RequestRefused, StoreUnusable."""
    body = request if isinstance(request, bytes) else api.encode(request)
    answer = api.decode((await connection.ask(subject, body, headers)).data)
    if answer.error is not None:
        raise RequestRefused(answer.error)
    return answer


async def last_message(connection: Connection, stream: str, subject: str) -> api.StoredMessage | None:
    """Of this subject. Raises JournalLost."""
    try:
        return (await ask(connection, api.get_message(stream), api.LastMessage(subject))).message
    except RequestRefused as refused:
        if refused.number in api.NOT_FOUND:
            return None
        raise


async def publish_after(connection: Connection, subject: str, body: bytes, last: int, *, of_subject: bool) -> bool:
    """Publish, if the last message of the stream, or of this subject, is still this one. Raises JournalLost."""
    header = "Nats-Expected-Last-Subject-Sequence" if of_subject else "Nats-Expected-Last-Sequence"
    try:
        await ask(connection, subject, body, {header: str(last)})
    except RequestRefused as refused:
        if refused.number in api.WRONG_LAST:
            return False
        raise
    return True


class Streams:
    def __init__(self, address: Address, entry_bytes: int) -> None:
        self._address, self._entry_bytes = address, entry_bytes
        self.log = f"plainmq-log-{address.name}"
        self.snapshots = f"plainmq-snapshots-{address.name}"
        self._place = f"plainmq.{address.name}"
        self.chunks = f"{self._place}.snapshot.chunk"
        self.newest = f"{self._place}.snapshot.newest"
        self.reserved = f"{self._place}.snapshot.reserved"

    async def check_server(self, connection: Connection) -> None:
        """Raises JournalLost, StoreUnusable."""
        for sentence in self._failings(connection):
            raise StoreUnusable(f"NATS at {self._address} {sentence}")
        try:
            await ask(connection, api.ACCOUNT)
        except NoResponders:
            raise StoreUnusable(f"NATS at {self._address} has no JetStream: start nats-server with -js") from None
        except RequestRefused as refused:
            if refused.number in api.NOT_ENABLED:
                raise StoreUnusable(f"the user of NATS at {self._address} has no JetStream: {refused}") from None
            raise

    def _failings(self, connection: Connection) -> Iterator[str]:
        version = str(connection.info.get("version", ""))
        if _numbers(version) < OLDEST:
            yield f"has the version {version}: expected 2.11 or later"
        if (most := connection.max_payload) < self._entry_bytes:
            yield (
                f"takes messages of {most} bytes, and an entry of the log may have {self._entry_bytes}: set "
                f"max_payload to {-(-self._entry_bytes >> 20)}MB there, or lower --max-batch and --max-message here"
            )

    async def open_log(self, connection: Connection, first: int) -> api.Answer:
        """The stream of the log. If there is none, it is created, and its first entry will have this number. Raises
        JournalLost, StoreUnusable."""
        subject = f"{self._place}.log.{token_hex(8)}"
        return await self._open(connection, api.StreamConfig(self.log, [subject], first_seq=first))

    async def open_snapshots(self, connection: Connection) -> None:
        """Raises JournalLost, StoreUnusable."""
        config = api.StreamConfig(self.snapshots, [f"{self._place}.snapshot.>"], max_msgs_per_subject=1)
        await self._open(connection, config)

    async def _open(self, connection: Connection, wanted: api.StreamConfig) -> api.Answer:
        wanted = msgspec.structs.replace(wanted, num_replicas=self._address.replicas)
        stream = await self.find(connection, wanted.name) or await self._create(connection, wanted)
        assert stream.config is not None
        for sentence in self._deviations(stream.config, wanted):
            raise StoreUnusable(f"the stream {wanted.name} of NATS at {self._address} {sentence}")
        return stream

    async def find(self, connection: Connection, name: str) -> api.Answer | None:
        """Raises JournalLost."""
        try:
            return await ask(connection, api.stream_info(name))
        except RequestRefused as refused:
            if refused.number in api.NOT_FOUND:
                return None
            raise

    async def _create(self, connection: Connection, wanted: api.StreamConfig) -> api.Answer:
        try:
            return await ask(connection, api.create_stream(wanted.name), wanted)
        except RequestRefused as refused:
            if refused.number == api.NAME_IN_USE and (stream := await self.find(connection, wanted.name)):
                return stream  # another node was first
            if refused.number in api.TEMPORARY:
                raise
            raise StoreUnusable(f"the stream {wanted.name} cannot be created: {refused}") from None

    def _deviations(self, config: api.StreamConfig, wanted: api.StreamConfig) -> Iterator[str]:
        for field in _EXPECTED:
            if (there := getattr(config, field)) != (expected := getattr(wanted, field)):
                yield f"has {field} {there}: expected {expected}"
        if config.num_replicas != wanted.num_replicas:
            yield f"has {config.num_replicas} replicas: expected replicas={config.num_replicas} in the address"
        if 0 < config.max_msg_size < self._entry_bytes:
            yield f"has max_msg_size {config.max_msg_size}: expected none, or at least {self._entry_bytes}"


def _numbers(version: str) -> tuple[int, ...]:
    """`2.11.3-dev` → `(2, 11)`"""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
