"""A flood of more connections than the limits: clients connected before are served on, and so are new ones after it."""

import asyncio
import socket
from contextlib import ExitStack

import httpx

from tests.abuse.subscribers import connect_subscribers, delivery_faults, publish, raised_file_limit
from tests.harness import DEADLINE, ServerProcess, http_client, start_server
from tests.line_client import lines

MAX_CLIENTS, FLOOD = 200, 1_500


async def test_a_flood_of_connections_harms_no_connected_client_and_ends() -> None:
    limits = ["--max-http-clients", str(MAX_CLIENTS), "--max-tcp-clients", str(MAX_CLIENTS), "--head-timeout", "1s"]
    with raised_file_limit(), start_server(*limits) as server, ExitStack() as stack:
        async with (
            http_client(server.url) as http,
            lines(server) as line_client,
            asyncio.timeout(4 * DEADLINE),
        ):
            await publish(http)
            subscribers = await connect_subscribers(server, 20)
            line_client.send("sub foo")
            assert (await line_client.next()).startswith(b"OK ")
            files, first, peak = server.open_files(), 0, 0
            for number in range(FLOOD):
                for port in (server.port, server.tcp_port):
                    stack.enter_context(socket.create_connection((server.host, port), DEADLINE))
                if number % 100 == 0:
                    last = await publish(http)
                    first = first or last
                    await asyncio.gather(*(subscriber.wait_for(last) for subscriber in subscribers))
                    assert (await line_client.next()).startswith(b"MSG foo ")
                    peak = max(peak, server.open_files())
            assert delivery_faults(subscribers, first, last) == {}
            assert peak - files <= 2 * MAX_CLIENTS + 50  # and those that are being refused
            stack.close()
            await _wait_until_served(server)
            while server.open_files() > files:
                await http.get("/livez")
            for subscriber in subscribers:
                subscriber.abort()


async def _wait_until_served(server: ServerProcess) -> None:
    """Return when a new client is served by HTTP and by the line port."""
    while True:
        try:
            async with http_client(server.url) as http, lines(server) as line_client:
                line_client.send("ping")
                if (await http.get("/livez")).status_code == 200 and await line_client.next() == b"OK pong\r\n":
                    return
        except (httpx.TransportError, ConnectionError):
            continue
