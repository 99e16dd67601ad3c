"""A new epoch begins when confirmed messages may be missing, and only who had seen beyond the cut is told of it."""

import shutil
from pathlib import Path

import pytest

from app.errors import OptionInvalid
from app.messages.lease import Action, LeaseId, Outcome, parse_lease_id
from app.messages.message import Id, parse_id
from app.messages.position import After, Gap, GapReason
from tests.engines.conftest import Opened, drafts_text
from tests.storage.reopening import LogFile, append, page


@pytest.fixture
def log_file(tmp_path: Path) -> LogFile:
    return LogFile(tmp_path)


async def seen_after(node: Opened, id: str) -> tuple[list[str], Gap | None]:
    got = await page(node, "**", start=After(parse_id(id)))
    return drafts_text(got.messages), got.gap


async def put_back(log_file: LogFile) -> str:
    """Two messages, a copy, two more, and the copy in place of the file. Returns the epoch of all four."""
    async with log_file.open() as node:
        await append(node, "t", "1", "2")
        epoch = node.engine.epoch
    copy = shutil.copy(log_file.path, f"{log_file.path}.copy")
    async with log_file.open() as node:
        await append(node, "t", "3", "4")
        assert node.engine.epoch == epoch
    shutil.move(copy, log_file.path)
    return epoch


async def test_an_older_file_that_was_put_back_begins_a_new_epoch_that_keeps_the_ids_up_to_the_cut(
    log_file: LogFile,
) -> None:
    old = await put_back(log_file)
    async with log_file.open() as node:
        new = node.engine.epoch
        assert new != old
        receipt = await append(node, "t", "other")
        assert (receipt.id, receipt.index) == (f"{new}-3", 2)
        assert [message.id for message in (await page(node, "t")).messages] == [f"{old}-1", f"{old}-2", f"{new}-3"]
        assert await seen_after(node, f"{old}-1") == (["2", "other"], None)
        assert await seen_after(node, f"{old}-2") == (["other"], None)
        for beyond in (f"{old}-3", f"{old}-4", "stranger-1"):
            texts, gap = await seen_after(node, beyond)
            assert texts == ["1", "2", "other"]
            assert gap == Gap(beyond, GapReason.EPOCH, None, f"{old}-1")


async def test_a_message_has_the_id_it_was_confirmed_with_and_a_lost_one_is_not_taken_for_another(
    log_file: LogFile,
) -> None:
    old = await put_back(log_file)
    async with log_file.open() as node:
        new = node.engine.epoch
        await append(node, "t", "other")
        bodies = {id: await node.engine.get(parse_id(id)) for id in (f"{old}-2", f"{old}-3", f"{new}-3")}
    assert [message and message.data for message in bodies.values()] == [b"2", None, b"other"]


async def test_a_second_cut_keeps_the_ids_of_both_epochs_before(log_file: LogFile) -> None:
    first = await put_back(log_file)
    async with log_file.open() as node:
        second = node.engine.epoch
        await append(node, "t", "3")
    copy = shutil.copy(log_file.path, f"{log_file.path}.copy")
    async with log_file.open() as node:
        await append(node, "t", "4")
    shutil.move(copy, log_file.path)
    async with log_file.open() as node:
        third = node.engine.epoch
        await append(node, "t", "four")
        ids = [message.id for message in (await page(node, "t")).messages]
        assert ids == [f"{first}-1", f"{first}-2", f"{second}-3", f"{third}-4"]
        for id in ids:
            assert (await seen_after(node, id))[1] is None
        for beyond in (f"{first}-3", f"{second}-4"):
            gap = (await seen_after(node, beyond))[1]
            assert gap is not None
            assert gap.reason is GapReason.EPOCH


async def test_a_lease_is_acked_by_its_old_id_and_one_beyond_the_cut_is_unknown(log_file: LogFile) -> None:
    async with log_file.open() as node:
        await append(node, "t", "1", "2")
        await node.engine.join("t", "g")
        leases = await node.engine.claim("t", "g", count=2, nbytes=1 << 20, seconds=None)
        old = node.engine.epoch
    copy = shutil.copy(log_file.path, f"{log_file.path}.copy")
    async with log_file.open() as node:
        await append(node, "t", "3")
    shutil.move(copy, log_file.path)
    async with log_file.open() as node:
        await append(node, "t", "other")
        (other,) = await node.engine.claim("t", "g", count=9, nbytes=1 << 20, seconds=None)
        ids = [parse_lease_id(lease.id) for lease in leases]
        ids += [LeaseId(Id(old, 3), 1), LeaseId(Id(old, 3)), parse_lease_id(other.id)]
        outcomes = await node.engine.settle("t", "g", Action.ACK, ids)
        assert outcomes == [Outcome.DONE, Outcome.DONE, Outcome.UNKNOWN, Outcome.UNKNOWN, Outcome.DONE]


async def test_a_group_begins_after_an_old_id_and_not_after_a_lost_one(log_file: LogFile) -> None:
    old = await put_back(log_file)
    async with log_file.open() as node:
        await node.engine.configure_group("t", "g", {}, (f"{old}-1", After(Id(old, 1))))
        (lease,) = await node.engine.claim("t", "g", count=9, nbytes=1 << 20, seconds=None)
        assert lease.id == f"{old}-2-1"
        with pytest.raises(OptionInvalid):
            await node.engine.configure_group("t", "h", {}, (f"{old}-3", After(Id(old, 3))))


async def test_relaxed_and_not_stopped_begins_a_new_epoch_and_nobody_misses_what_is_there(log_file: LogFile) -> None:
    async with log_file.open(synchronous="relaxed") as node:
        old = node.engine.epoch
        await append(node, "t", "1", "2")
        await log_file.cut(node)
    async with log_file.open(synchronous="relaxed") as node:
        assert node.engine.epoch != old
        await append(node, "t", "3")
        assert await seen_after(node, f"{old}-1") == (["2", "3"], None)
        assert await seen_after(node, f"{old}-2") == (["3"], None)
        gap = (await seen_after(node, f"{old}-3"))[1]
        assert gap is not None
        assert gap.reason is GapReason.EPOCH


async def test_relaxed_and_stopped_in_good_order_is_the_same_epoch(log_file: LogFile) -> None:
    epochs = []
    for _ in range(3):
        async with log_file.open(synchronous="relaxed") as node:
            await append(node, "t", "1")
            epochs.append(node.engine.epoch)
    assert len(set(epochs)) == 1


async def test_what_counts_is_how_the_file_was_written_not_how_it_is_opened(log_file: LogFile) -> None:
    async with log_file.open() as node:
        await append(node, "t", "1")
        epoch = node.engine.epoch
        await log_file.cut(node)
    async with log_file.open(synchronous="relaxed") as node:
        assert node.engine.epoch == epoch
        await append(node, "t", "2")
        await log_file.cut(node)
    async with log_file.open() as node:
        assert node.engine.epoch != epoch


async def test_an_empty_file_beside_the_old_lock_is_another_log(log_file: LogFile) -> None:
    async with log_file.open() as node:
        old = node.engine.epoch
        await append(node, "t", "1")
    log_file.path.unlink()
    async with log_file.open() as node:
        assert node.engine.epoch != old
        await append(node, "t", "other")
        gap = (await seen_after(node, f"{old}-1"))[1]
        assert gap is not None
        assert gap.reason is GapReason.EPOCH
