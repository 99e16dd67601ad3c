"""Random commands with every kind of option, over few topics and groups, so that they meet."""

from collections.abc import Sequence
from random import Random
from typing import Any, Final

from app.errors import PlainmqError
from app.log.commands.begin_epoch import BeginEpoch
from app.log.commands.command import Command
from app.log.commands.delivery import GiveBack, Take, Taken
from app.log.commands.groups import (
    Claim,
    ConfigureGroup,
    DropGroup,
    Join,
    Operate,
    PauseGroup,
    Redrive,
    Seek,
    Settle,
)
from app.log.commands.publishing import Append, AppendEach, CancelScheduled, PublishScheduled, SetResult
from app.log.commands.set_limits import SetLimits
from app.log.commands.tick import Tick
from app.log.commands.topics import Configure, Drop, Pause, Purge
from app.log.groups.redrive import RedriveTarget
from app.log.topic_log import Limits, Retention
from app.messages.lease import Action, Lease, LeaseId, lease_id
from app.messages.message import Delivery, Draft, Envelope, Id, Receipt, Scheduled
from app.messages.ordering import Ordering
from app.messages.position import EARLIEST, LATEST, After, Ago, Last, Start
from app.messages.scheduled_id import ScheduledId, parse_scheduled_id
from app.messages.topic import dead_letter_of

EPOCH: Final = "e0"
TOPICS: Final = [*(f"t{number}" for number in range(6)), "t0.dead", "t1.dead"]
GROUPS: Final = ["g", "h"]
SETTLING: Final = [Action.ACK, Action.ACK, Action.NACK, Action.EXTEND, Action.RETURN, Action.EXCUSE]


class RandomCommands:
    """The leases and the ids that it names are those that earlier commands have given, so it must be told results."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._leases: list[tuple[str, str, LeaseId]] = []
        self._in_transit: list[tuple[str, int]] = []
        self._keyed: list[tuple[str, str, Receipt]] = []
        self._scheduled: list[ScheduledId] = []
        self._epochs = [EPOCH]
        self._groups: dict[tuple[str, str], None] = {}  # those that were there
        self.head = 1

    def next(self) -> Command:
        makers, weights = zip(*MAKERS.items(), strict=True)
        (make,) = self._random.choices(makers, weights)
        command: Command = make(self)
        return command

    def answered(self, command: Command, result: Any, for_one: Sequence[tuple[str, int]]) -> None:
        self._in_transit += for_one
        if isinstance(command, Take):
            self._in_transit += [(topic, seq) for topic, seq in command.messages if seq in result]
        if isinstance(command, Join | Claim | ConfigureGroup):
            self._groups[command.topic, command.group] = None
            if isinstance(result, PlainmqError):
                del self._groups[command.topic, command.group]
        if isinstance(command, Claim) and isinstance(result, list):
            self._leases += [
                (command.topic, command.group, lease_id(lease)) for lease in result if isinstance(lease, Lease)
            ]
        if isinstance(result, Scheduled) and result.id:
            self._scheduled.append(parse_scheduled_id(result.id))
        if isinstance(command, Append) and isinstance(result, Receipt) and command.drafts[0].idempotency_key:
            self._keyed.append((result.topic, command.drafts[0].idempotency_key, result))

    # What the commands are about

    def _one(self, *choices: Any) -> Any:
        return self._random.choice(choices)

    def _topic(self) -> str:
        return self._random.choice(TOPICS)

    def _place(self) -> tuple[str, str]:
        return self._random.choice([*self._groups, *self._groups, (self._topic(), self._random.choice(GROUPS))])

    def _seq(self) -> int:
        return self._random.randint(max(self.head - 60, 1), self.head + 1)

    def _id(self) -> Id:
        return Id(self._one(EPOCH, *self._epochs[-2:], "other"), self._seq())

    def _start(self) -> tuple[str, Start]:
        return "", self._one(EARLIEST, LATEST, After(self._id()), Ago(5.0), Last(3))

    def _bodies(self) -> list[bytes]:
        return [b"x" * self._random.randrange(120) for _ in range(self._random.randint(1, 3))]

    def _envelope(self, topic: str) -> Envelope:
        delivery = self._one(*[Delivery.ALL] * 5, Delivery.ONE)
        ordering = None
        if delivery is Delivery.ALL:
            ordering = self._one(None, None, None, Ordering(self._random.randrange(3), self._one(None, "k", "l")))
        return Envelope(
            topic, delivery=delivery, ttl=self._one(None, None, None, 2.0), retain=self._one(True, True, True, False),
            ordering=ordering, headers=self._one(None, None, b"a: 1\n"),
        )  # fmt: skip

    # Publishers

    def append_each(self) -> Command:
        topic = self._topic()
        return AppendEach([Draft(self._envelope(topic), self._bodies()) for _ in range(self._random.randint(1, 2))])

    def append(self) -> Command:
        key, delay = self._one(None, f"k{self._random.randrange(20)}"), self._one(None, None, 3.0, 9.0)
        at = self._one(None, None, None, 1e9 + 1.3 * self.head)  # soon, or in the past
        return Append([Draft(Envelope(self._topic()), self._bodies(), delay, key, at)])

    def publish_scheduled(self) -> Command:
        return PublishScheduled(self._scheduled_id())

    def cancel_scheduled(self) -> Command:
        return CancelScheduled(self._scheduled_id())

    def _scheduled_id(self) -> ScheduledId:
        return self._scheduled.pop() if self._scheduled else ScheduledId(EPOCH, 1)

    def set_result(self) -> Command:
        if not self._keyed:
            return Tick()
        _, key, receipt = self._keyed.pop()
        return SetResult(receipt, key)

    # Messages for one subscriber

    def resolve(self) -> Command:
        if not self._in_transit:
            return Tick()
        _, seq = self._in_transit.pop(self._random.randrange(len(self._in_transit)))
        return Taken([seq]) if self._one(True, False) else GiveBack([seq])

    def take(self) -> Command:
        wanted = [(self._topic(), self._seq()) for _ in range(10)]
        return Take(wanted)

    # Topics

    def configure(self) -> Command:
        changes = self._one({"max_messages": self._random.randint(1, 30)}, {"max_bytes": 900}, {"max_age": 6.5})
        return Configure(self._topic(), changes)

    def pause(self) -> Command:
        return Pause(self._topic(), self._one(True, False, False))

    def purge(self) -> Command:
        return Purge(self._topic(), self._one(None, self._start()))

    def drop(self) -> Command:
        return Drop(self._topic())

    # Groups

    def join(self) -> Command:
        return Join(*self._place(), self._one(True, True, False))

    def configure_group(self) -> Command:
        changes = self._one({"max_deliveries": 2}, {"ack_timeout": 1.5}, {"dead_letter": self._topic()}, {})
        return ConfigureGroup(*self._place(), changes, self._one(None, self._start()), self._one(True, False))

    def pause_group(self) -> Command:
        return PauseGroup(*self._place(), self._one(True, False, False))

    def seek(self) -> Command:
        return Seek(*self._place(), self._start())

    def drop_group(self) -> Command:
        return DropGroup(*self._place())

    def claim(self) -> Command:
        return Claim(
            *self._place(), self._random.randint(1, 4), 1 << 10, self._one(None, 1.0), self._one("", "run"), "w"
        )

    def settle(self) -> Command:
        if not self._leases:
            return self.claim()
        topic, group, id = self._leases.pop(-self._random.randint(1, min(len(self._leases), 12)))
        return Settle(topic, group, self._random.choice(SETTLING), [id], self._one(None, 0, 2.5), self._one(None, "no"))

    def operate(self) -> Command:
        ids = [LeaseId(self._id()) for _ in range(3)]
        return Operate(*self._place(), self._one(Action.SKIP, Action.RELEASE), ids)

    def redrive(self) -> Command:
        topic, group = self._place()
        place = self._one(dead_letter_of(topic), dead_letter_of(topic), self._topic())
        target = RedriveTarget(topic, group, place, self._one(None, 5.0))
        return Redrive(target, self._one(None, None, [self._id(), self._id()]))

    def set_limits(self) -> Command:
        kept = Retention(self._one(20, 25), 1 << 12, self._one(30.0, 40.0))
        return SetLimits(Limits(kept, 120_000, len(TOPICS) - 1, self._one(2, 3), 15.0, self._one(60_000, 70_000)))

    def tick(self) -> Command:
        return Tick()

    def begin_epoch(self) -> Command:
        self._epochs.append(f"e{len(self._epochs)}")
        return BeginEpoch(self._epochs[-1])


MAKERS: Final = {
    RandomCommands.append_each: 40,
    RandomCommands.append: 16,
    RandomCommands.publish_scheduled: 1,
    RandomCommands.cancel_scheduled: 1,
    RandomCommands.set_result: 2,
    RandomCommands.resolve: 6,
    RandomCommands.take: 2,
    RandomCommands.configure: 2,
    RandomCommands.pause: 1,
    RandomCommands.purge: 1,
    RandomCommands.drop: 1,
    RandomCommands.join: 6,
    RandomCommands.configure_group: 3,
    RandomCommands.pause_group: 1,
    RandomCommands.seek: 1,
    RandomCommands.drop_group: 1,
    RandomCommands.claim: 18,
    RandomCommands.settle: 16,
    RandomCommands.operate: 2,
    RandomCommands.redrive: 8,
    RandomCommands.set_limits: 1,
    RandomCommands.tick: 2,
    RandomCommands.begin_epoch: 1,
}
