"""A question behind commands of its node, while the journal says nothing."""

import asyncio

import pytest

from app.storage.replicated import outgoing
from tests.engines.test_contract import append, texts
from tests.harness import DEADLINE
from tests.storage.replicated.nodes import nodes, settled


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "READ_WAIT", 0.05)


async def test_a_read_behind_a_publish_that_stays_out_is_answered_from_what_is_known() -> None:
    async with nodes() as cluster:
        a = await cluster.start()
        await append(a, "a", "known")
        a.hold(True)
        pending = asyncio.ensure_future(append(a, "a", "on its way"))
        await settled()
        async with asyncio.timeout(DEADLINE):
            assert await texts(a, "a") == ["known"], "after a while"
            assert await texts(a, "a") == ["known"], "and then at once"
        assert not pending.done()
        a.hold(False)
        await pending
        assert await texts(a, "a") == ["known", "on its way"]


async def test_a_read_behind_a_publish_that_comes_in_time_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "READ_WAIT", DEADLINE)
    async with nodes() as cluster:
        a = await cluster.start()
        a.hold(True)
        pending = asyncio.ensure_future(append(a, "a", "x"))
        await settled()
        read = asyncio.ensure_future(texts(a, "a"))
        await settled()
        assert not read.done()
        a.hold(False)
        assert await read == ["x"]
        await pending
