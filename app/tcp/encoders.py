from collections.abc import Sequence
from typing import Any

from ..messages.control_characters import CODES
from ..messages.lease import Lease
from ..messages.message import BODY_PLACEHOLDER, Message
from ..messages.position import Gap
from ..messages.record import as_text, encode_json

# The line port


class _Lines:
    """Nothing stands around a line."""

    keep_alive = b""

    def join(self, frames: Sequence[bytes]) -> bytes:
        return b"".join(frames)


class _JsonLines(_Lines):
    """A gap shows as a jump of the index."""

    def gap(self, gap: Gap) -> bytes:  # noqa: ARG002
        return b""


class _WordsLines(_Lines):
    def gap(self, gap: Gap) -> bytes:
        return f"GAP {gap.sentence}\r\n".encode()


class LineEncoder(_Lines):
    """One line a message."""

    kind = "line"
    is_subscriber = True

    def encode(self, message: Message) -> bytes:
        raise NotImplementedError

    def gap(self, gap: Gap) -> bytes:
        raise NotImplementedError

    def position_event(self, id: str) -> bytes:  # noqa: ARG002
        return b""


class LiteralEncoder(LineEncoder):
    """Python literals: the very line that was sent; a message from another door looks like one."""

    def encode(self, message: Message) -> bytes:
        if message.line is not None:
            return message.line.replace(BODY_PLACEHOLDER, message.data)
        try:
            msg: str | bytes = message.data.decode()
        except UnicodeDecodeError:
            msg = message.data
        return f"{ {'command': 'send', 'topic': message.topic, 'msg': msg} }\n".encode()

    def gap(self, gap: Gap) -> bytes:
        return f"{ {'success': False, 'reason': gap.sentence} }\n".encode()


def _sent(message: Message) -> dict[str, Any]:
    return {
        "command": "send",
        "topic": message.topic,
        "msg": as_text(message),
        "delivery": message.delivery.value,
        "index": message.index,
    }


class JsonEncoder(_JsonLines, LineEncoder):
    """JSON: the `send` object with its index."""

    def encode(self, message: Message) -> bytes:
        return encode_json(_sent(message)) + b"\r\n"


class JsonLeaseEncoder(_JsonLines):
    """JSON, for a worker: the same with the message's id and the attempt."""

    def encode(self, lease: Lease) -> bytes:
        return encode_json(_sent(lease.message) | {"id": lease.message.id, "attempt": lease.attempt}) + b"\r\n"


class TextEncoder(_WordsLines, LineEncoder):
    """Words for people: control characters and backslashes are shown as escapes, so that a line stays one."""

    def encode(self, message: Message) -> bytes:
        return f"MSG {message.topic} {message.id} {escaped(as_text(message))}\r\n".encode()


class TextLeaseEncoder(_WordsLines):
    """Words, for a worker: which lease it is, and the text."""

    def encode(self, lease: Lease) -> bytes:
        message = lease.message
        return f"JOB {message.topic} {lease.id} {escaped(as_text(message))}\r\n".encode()


_ESCAPES = (
    {code: f"\\u{code:04x}" for code in CODES}
    | {ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
    | {code: f"\\x{code:02x}" for code in (*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x7F, 0xA0))}
)


def escaped(text: str) -> str:
    """Text that cannot end a line or steer a terminal."""
    return text.translate(_ESCAPES)


LITERAL = LiteralEncoder()
JSON = JsonEncoder()
WORDS = TextEncoder()
JSON_LEASE = JsonLeaseEncoder()
WORDS_LEASE = TextLeaseEncoder()
