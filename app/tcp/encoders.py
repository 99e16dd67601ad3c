"""The encoders of the line port: messages and leases as lines, in each dialect."""

from collections.abc import Sequence
from typing import Any

from ..messages.control_characters import CODES, escape_json
from ..messages.lease import Lease
from ..messages.message import BODY_PLACEHOLDER, Message
from ..messages.position import Gap
from ..messages.record import as_text, encode_json


class _Lines:
    """A batch is its lines, and nothing else."""

    keep_alive = b""

    def join(self, frames: Sequence[bytes]) -> bytes:
        return b"".join(frames)


class _JsonLines(_Lines):
    """No frame for a gap: the client sees that the index jumps."""

    def gap(self, gap: Gap) -> bytes:  # noqa: ARG002
        return b""


class _TextLines(_Lines):
    def gap(self, gap: Gap) -> bytes:
        return f"GAP {gap.sentence}\r\n".encode()


class LineEncoder(_Lines):
    """One line per message."""

    kind = "line"
    is_subscriber = True

    def encode(self, message: Message) -> bytes:
        raise NotImplementedError

    def gap(self, gap: Gap) -> bytes:
        raise NotImplementedError

    def position_event(self, id: str) -> bytes:  # noqa: ARG002
        return b""


class LiteralEncoder(LineEncoder):
    """A message that was sent as a Python literal is the very line that was sent. Any other message is written as a
    literal of the same form."""

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


def _fields(message: Message) -> dict[str, Any]:
    return {
        "command": "send",
        "topic": message.topic,
        "msg": as_text(message),
        "delivery": message.delivery.value,
        "index": message.index,
    }


class JsonEncoder(_JsonLines, LineEncoder):
    """The `send` object, with the index of the message."""

    def encode(self, message: Message) -> bytes:
        return escape_json(encode_json(_fields(message))) + b"\r\n"


class JsonLeaseEncoder(_JsonLines):
    """For consumers: the `send` object with the index, the message's id and the attempt."""

    def encode(self, lease: Lease) -> bytes:
        fields = _fields(lease.message) | {"id": lease.message.id, "attempt": lease.attempt}
        return escape_json(encode_json(fields)) + b"\r\n"


class TextEncoder(_TextLines, LineEncoder):
    """Control characters and backslashes are escaped, so that each message is one line."""

    def encode(self, message: Message) -> bytes:
        return f"MSG {message.topic} {message.id} {escaped(as_text(message))}\r\n".encode()


class TextLeaseEncoder(_TextLines):
    """For consumers: the id of the lease, and the text."""

    def encode(self, lease: Lease) -> bytes:
        message = lease.message
        return f"JOB {message.topic} {lease.id} {escaped(as_text(message))}\r\n".encode()


_ESCAPES = (
    {code: f"\\u{code:04x}" for code in CODES}
    | {ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
    | {code: f"\\x{code:02x}" for code in (*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x7F, 0xA0))}
)


def escaped(text: str) -> str:
    """The text with escapes for all characters that would end the line or control a terminal."""
    return text.translate(_ESCAPES)


LITERAL = LiteralEncoder()
JSON = JsonEncoder()
TEXT = TextEncoder()
JSON_LEASE = JsonLeaseEncoder()
TEXT_LEASE = TextLeaseEncoder()
