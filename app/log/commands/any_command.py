"""All commands: what the bytes of one may stand for, on every node and in every later version."""

from .begin_epoch import BeginEpoch
from .delivery import GiveBack, Take, Taken
from .groups import Claim, ConfigureGroup, DropGroup, Join, Operate, PauseGroup, Redrive, Seek, Settle
from .publishing import Append, AppendEach, CancelScheduled, PublishScheduled, SetResult
from .set_limits import SetLimits
from .tick import Tick
from .topics import Configure, Drop, Pause, Purge

AnyCommand = (
    Append | AppendEach | PublishScheduled | CancelScheduled | SetResult | Take | Taken | GiveBack | Configure | Pause
    | Purge | Drop | Join | ConfigureGroup | PauseGroup | Seek | DropGroup | Claim | Settle | Operate | Redrive
    | Tick | BeginEpoch | SetLimits
)  # fmt: skip
