"""The ledger of a cluster finds every fault, and accepts a good run and a loss that is told where it was."""

import pytest

from tests.ledgers.cluster import GAP, ClusterLedger, Reader, Stored

LOG: list[Stored] = [("a-1", "t", "p 0"), ("a-2", "t", "p 1"), ("b-3", "t", "p 3")]
GONE: Stored = ("a-3", "t", "p 2")
"""It was confirmed and read, and then lost."""


def run(*entries: Stored | str) -> ClusterLedger:
    ledger = ClusterLedger()
    for id, _, body in [*LOG[:2], GONE, LOG[2]]:
        ledger.publish(body)
        ledger.confirm(body, id)
    ledger.sent["p 4"] = 0.0
    ledger.unknown.add("p 4")
    ledger.readers.append(Reader("r", [*entries]))
    return ledger


def test_a_good_run_has_no_faults() -> None:
    ledger = run(*LOG)
    assert ledger.check(LOG) == {"lost": 1}
    assert ledger.lost(LOG) == {"p 2"}


def test_a_loss_that_is_told_where_it_was_is_no_other_fault() -> None:
    assert run(*LOG[:2], GONE, GAP, *LOG).check(LOG) == {"lost": 1}


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([*LOG[:2], GONE, LOG[2]], "loss without a gap"),
        ([*LOG[:2], GAP, *LOG], "gap in vain"),
        ([LOG[0], LOG[0], *LOG[1:]], "duplicate"),
        ([*LOG[:2], LOG[0], *LOG[1:]], "reordered"),
        ([LOG[0], LOG[2]], "left out"),
        (LOG[:2], "not read to the end"),
        ([*LOG[:2], ("a-3", "t", "never sent"), GAP, *LOG], "phantom"),
    ],
)
def test_a_fault_of_a_reader_is_found(entries: list[Stored | str], fault: str) -> None:
    assert fault in run(*entries).check(LOG)


@pytest.mark.parametrize(
    ("log", "fault"),
    [
        ([*LOG, ("b-4", "t", "p 0")], "duplicate in the log"),
        ([*LOG, ("b-4", "t", "never 0")], "phantom in the log"),
        ([*LOG, ("b-5", "t", "p 4")], "hole in the log's numbers"),
        ([LOG[0], ("c-2", "t", "p 1"), LOG[2]], "forged id"),
        ([LOG[1], LOG[0], LOG[2]], "reordered in the log"),
        (LOG[1:], "lost"),
    ],
)
def test_a_fault_of_the_log_is_found(log: list[Stored], fault: str) -> None:
    assert fault in run(*log).check(log)


def test_a_publish_without_an_outcome_is_found() -> None:
    ledger = run(*LOG)
    ledger.publish("p 5")
    assert ledger.check(LOG)["not confirmed"] == 1


def test_a_reader_that_is_told_of_a_gap_twice_before_it_gets_a_message_has_one() -> None:
    ledger = run(*LOG[:2], GONE)
    ledger.told_of_gap(ledger.readers[0])
    ledger.told_of_gap(ledger.readers[0])
    assert ledger.gaps == 1
    assert ledger.readers[0].last == "p 2"
