"""One client sends many lines at once: others are served in between."""

import asyncio

import pytest

from tests.tcp.peer import DEADLINE, serving

SIZE = 120_000  # bytes: less than one read of the server


@pytest.mark.parametrize(
    ("line", "code"), [(b"x\n", "unknown_command"), (b"{'x':()}\n", "bad_arguments")], ids=["words", "literals"]
)
async def test_others_are_served_between_the_lines_of_a_client_that_sends_many(line: bytes, code: str) -> None:
    async with serving() as port, port.connect() as sender, port.connect() as other:
        refusals = port.broker.counters.refusals
        count = SIZE // len(line)
        sender.send(line * count)
        async with asyncio.timeout(DEADLINE):
            while not refusals[code]:  # noqa: ASYNC110  (the first turn)
                await asyncio.sleep(0)
        assert await other.ask("ping") == b"OK pong\r\n"
        assert refusals[code] < count // 2  # one turn handles fewer


async def test_the_lines_of_a_long_read_are_handled_in_order_up_to_quit() -> None:
    async with serving() as port, port.connect() as peer, port.connect() as subscriber:
        await subscriber.do('{"command":"subscribe","topic":"a"}')
        sends = [b"{'command':'send', 'topic':'a', 'msg':'%d'}\n" % number for number in range(5_000)]
        peer.send(b"".join(sends) + b"quit\n")
        assert await peer.rest() == b""
        got = [line.partition(b'"msg":"')[2].partition(b'"')[0] for line in await subscriber.lines(5_000)]
        assert got == [b"%d" % number for number in range(5_000)]
