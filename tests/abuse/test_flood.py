"""More connections than a server takes: who was there is served on, and so is whoever comes after the flood."""

import asyncio
import socket
from contextlib import ExitStack

import httpx

from tests.abuse.subscribers import faults, gather, many_files, publish
from tests.harness import DEADLINE, ServerProcess, http_client, start_server
from tests.line_client import lines

MOST, FLOOD = 200, 1_500


async def test_a_flood_of_connections_harms_nobody_who_was_there_and_passes() -> None:
    limits = ["--max-http-clients", str(MOST), "--max-tcp-clients", str(MOST), "--head-timeout", "1s"]
    with many_files(), start_server(*limits) as server, ExitStack() as stack:
        async with (
            http_client(server.url) as http,
            lines(server) as words,
            asyncio.timeout(4 * DEADLINE),
        ):
            await publish(http)
            readers = await gather(server, 20)
            words.send("sub foo")
            assert (await words.next()).startswith(b"OK ")
            files, first, most = server.open_files(), 0, 0
            for number in range(FLOOD):
                for port in (server.port, server.tcp_port):
                    stack.enter_context(socket.create_connection((server.host, port), DEADLINE))
                if number % 100 == 0:
                    last = await publish(http)
                    first = first or last
                    await asyncio.gather(*(reader.until(last) for reader in readers))
                    assert (await words.next()).startswith(b"MSG foo ")
                    most = max(most, server.open_files())
            assert faults(readers, first, last) == {}
            assert most - files <= 2 * MOST + 50  # those that are being refused
            stack.close()
            await _served(server)
            while server.open_files() > files:
                await http.get("/livez")
            for reader in readers:
                reader.cut()


async def _served(server: ServerProcess) -> None:
    """Return when a new client is, at each door."""
    while True:
        try:
            async with http_client(server.url) as http, lines(server) as words:
                words.send("ping")
                if (await http.get("/livez")).status_code == 200 and await words.next() == b"OK pong\r\n":
                    return
        except (httpx.TransportError, ConnectionError):
            continue
