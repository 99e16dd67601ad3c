"""Faults of the server while it reads a request: they are reported and answered as such."""

import asyncio
from typing import Any

import pytest

from app.web.fastpath.requests import FastPath
from app.web.middleware.forwarded import Proxies
from tests.harness import http_client
from tests.net.recorder import recording


async def test_a_fault_while_a_head_is_read_is_answered_500_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    loop, reported = asyncio.get_running_loop(), list[Any]()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: reported.append(str(context["exception"])))
    try:
        async with recording(Proxies()) as (port, _, _), http_client(f"http://127.0.0.1:{port}") as http:
            with monkeypatch.context() as patch:
                patch.setattr(FastPath, "match", fail)
                answer = await http.post("/topics/foo/messages", content="x")
            assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
            assert (await http.post("/topics/foo/messages", content="x")).status_code == 201
    finally:
        loop.set_exception_handler(handler)
    assert reported == ["a fault"]
