"""What is for one subscriber, over TLS, which has a buffer that it does not tell of."""

import asyncio
import socket
from typing import Final

import httpx

from tests.harness import DEADLINE, ServerProcess, http_client
from tests.net.authority import Authority
from tests.net.test_tls import stream

SIZE: Final = 1_000  # bytes
BODIES: Final = [f"{n:04}".ljust(SIZE, "x") for n in range(400)]


async def publish(http: httpx.AsyncClient, *bodies: str) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    path = "/topics/handing/messages?delivery=one"
    (await http.post(path, content="\n".join(bodies), headers=headers)).raise_for_status()


async def nothing_is_left(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(DEADLINE):
        while (await http.get("/topics/handing")).json()["messages"]:
            pass


def take_nothing(server: ServerProcess, authority: Authority) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect((server.host, server.port))
    secure = authority.trust().wrap_socket(sock, server_hostname="localhost")
    secure.sendall(b"GET /topics/handing/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return secure


async def test_a_subscriber_that_reads_nothing_removes_nothing_and_one_that_reads_has_everything_that_is_gone(
    secure: ServerProcess, authority: Authority
) -> None:
    async with http_client(secure.url, verify=authority.trust()) as http:
        await publish(http, *BODIES)
        client = await asyncio.to_thread(take_nothing, secure, authority)
        most = client.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        async with asyncio.timeout(DEADLINE):
            while not (await http.get("/topics/handing")).json()["subscribers"]:
                pass
        await http.get("/topics/handing")
        client.close()
        async with stream(secure, authority, "/topics/handing/stream") as events:
            got = [await events.next()]
            await nothing_is_left(http)  # while the subscriber is there
            await publish(http, "end")
            while (event := await events.next()) and event.data != "end":
                got.append(event)
            await nothing_is_left(http)
        assert (len(BODIES) - len({event.data for event in got if event})) * SIZE <= most
