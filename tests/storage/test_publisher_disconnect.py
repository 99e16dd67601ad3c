"""A client that is gone before the disk has what it published."""

import asyncio
import socket
import struct
from pathlib import Path

from tests.harness import DEADLINE, http_client, start_server


async def test_a_client_that_leaves_before_its_answer_leaves_no_trace_in_the_log(tmp_path: Path) -> None:
    with start_server("--engine", f"sqlite://{tmp_path}/log.db") as server:
        request = b"POST /topics/a/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
        for _ in range(50):
            with socket.create_connection((server.host, server.port), DEADLINE) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it leaves by RST
                client.sendall(request)
        async with http_client(server.url) as http:
            assert (await http.post("/topics/a/messages", content=b"last")).status_code == 201
        assert await asyncio.to_thread(server.stop) == 0
        assert server.complaints() == []
