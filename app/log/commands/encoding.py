"""The bytes of commands: MessagePack, the same on every node and in every later version."""

from collections.abc import Sequence

import msgspec

from .begin_epoch import BeginEpoch
from .command import Command
from .delivery import GiveBack, Take, Taken
from .groups import Claim, ConfigureGroup, DropGroup, Join, Operate, PauseGroup, Redrive, Seek, Settle
from .publishing import Append, AppendEach, CancelScheduled, PublishScheduled, SetResult
from .tick import Tick
from .topics import Configure, Drop, Pause, Purge

AnyCommand = (
    Append | AppendEach | PublishScheduled | CancelScheduled | SetResult | Take | Taken | GiveBack | Configure | Pause
    | Purge | Drop | Join | ConfigureGroup | PauseGroup | Seek | DropGroup | Claim | Settle | Operate | Redrive
    | Tick | BeginEpoch
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[AnyCommand])


def encode(commands: Sequence[Command]) -> bytes:
    return _encoder.encode(commands)


def decode(data: bytes) -> Sequence[Command]:
    """Raises msgspec.ValidationError for a command that this version does not know."""
    return _decoder.decode(data)
