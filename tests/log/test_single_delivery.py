"""What is decided together, where an engine learns later what became of it."""

from app.log.accepted import Accepted
from app.log.epochs import Epochs
from app.log.state import LogStateMachine
from app.log.store import MemoryMessageStore
from app.log.topic_log import Limits, Retention
from app.messages.message import Delivery
from tests.harness import draft

FULL = 2  # messages


def append(core: LogStateMachine, body: bytes, delivery: Delivery = Delivery.ALL) -> int:
    answer = core.append([draft("a", body, delivery=delivery)], 0.0)
    assert isinstance(answer, Accepted)
    return answer.runs[0].seq


def kept(core: LogStateMachine) -> list[bytes]:
    return [message.data for run in core.log.topics["a"].messages.after(0) for message in run.messages]


def test_a_message_for_one_takes_no_room_before_it_is_known_whether_it_stays() -> None:
    core = LogStateMachine(Limits(Retention(FULL)), Epochs("e"), MemoryMessageStore())
    append(core, b"1"), append(core, b"2")
    taken, stays = append(core, b"3", Delivery.ONE), append(core, b"4", Delivery.ONE)
    core.trim()
    outbox = core.take_outbox()
    assert kept(core) == [b"1", b"2", b"3", b"4"]
    core.give_back(outbox.undelivered({taken: 1, stays: 0}))
    core.trim()
    assert kept(core) == [b"2", b"3", b"4"]
    core.taken([taken])
    core.trim()
    assert kept(core) == [b"2", b"4"]


def test_a_topic_in_which_something_always_is_for_one_grows_no_further() -> None:
    core = LogStateMachine(Limits(Retention(FULL)), Epochs("e"), MemoryMessageStore())
    for number in range(100):
        append(core, b"%d" % number, Delivery.ONE)
        core.trim()
        assert len(kept(core)) <= FULL + 1
        for message in core.take_outbox().for_one:
            core.give_back([message.seq])
