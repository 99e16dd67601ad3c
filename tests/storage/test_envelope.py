"""Each field of an envelope survives the places that take an envelope apart and build one again by position: a row of
the file, and the messages of a run. A new field needs an example here."""

from typing import Any, Final

import pytest
from msgspec.structs import asdict, fields

from app.log.epochs import Epochs
from app.log.run import Run, make_runs
from app.messages.message import Death, Delivery, Draft, Envelope, Message, Redrive
from app.messages.ordering import Ordering
from app.storage.sqlite.row import Row

NOW: Final = 1_800_000_000.0

EXAMPLES: Final[dict[str, Any]] = {
    "topic": "rooms.kitchen",
    "content_type": "image/png",
    "event": "resize",
    "delivery": Delivery.ONE,
    "retain": False,
    "ttl": 60.0,
    "line": b"to the kitchen: \0",
    "death": Death("abc-1", "rooms.cellar", "g", 3, "no paper", NOW - 2, NOW - 1),
    "headers": b'{"title":"tea"}',
    "redrive": Redrive("g", "abc-1"),
    "ordering": Ordering(7, "cat"),
}
NOT_STORED: Final = {"retain"}  # a message that is not retained never reaches the file
OF_THE_MESSAGE: Final = {"retain": "retained", "ttl": "expires"}  # fields that a Message has under another name

each_field = pytest.mark.parametrize("field", Envelope.__struct_fields__)


def run_with(field: str) -> Run:
    """A run whose envelope differs from the default in this field only."""
    defaults = {one.name: one.default for one in fields(Envelope)}
    assert EXAMPLES[field] != defaults[field]
    (run,) = make_runs(Draft(Envelope(**{"topic": "a", field: EXAMPLES[field]}), [b"x"]), "abc", 7, 3, NOW)
    return run


@each_field
def test_a_row_of_the_file_has_the_field(field: str) -> None:
    run = run_with(field)
    restored = Row.of_values(Row.of_run(run).values, Epochs("abc")).run
    if field in NOT_STORED:
        assert getattr(restored.envelope, field) != EXAMPLES[field]
    else:
        assert asdict(restored) == asdict(run)


@each_field
def test_a_message_of_a_run_has_the_field_and_no_other_changes(field: str) -> None:
    run, name = run_with(field), OF_THE_MESSAGE.get(field, field)
    (message,) = run.messages
    assert getattr(message, name) == (run.expires if field == "ttl" else EXAMPLES[field])
    (plain,) = make_runs(Draft(Envelope("a"), [b"x"]), "abc", 7, 3, NOW)[0].messages
    differing = {one for one in Message.__struct_fields__ if getattr(message, one) != getattr(plain, one)}
    assert differing == {name}
