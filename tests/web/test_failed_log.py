"""A server whose log can never go on says so where a supervisor looks."""

import asyncio
from time import time

import httpx

from app.broker.broker import Broker
from app.web.app import create_app
from app.web.middleware.origin import Rules
from app.web.publish_request import PublishLimits
from tests.engines.local_journal import SharedLog
from tests.harness import DEADLINE, OPEN
from tests.web.test_metrics import shared_engine


async def test_a_log_that_has_failed_is_neither_alive_nor_ready() -> None:
    log = SharedLog(time)
    async with Broker(shared_engine(log)) as broker:
        transport = httpx.ASGITransport(create_app(broker, OPEN, PublishLimits(), Rules()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            assert [(await http.get(path)).status_code for path in ("/livez", "/readyz")] == [200, 200]
            log.append(b"a link", b"of another program")
            async with asyncio.timeout(DEADLINE):
                while (await http.get("/livez")).status_code == 200:  # noqa: ASYNC110  # an entry is on its way
                    await asyncio.sleep(0.01)
            for path in ("/livez", "/readyz"):
                answer = await http.get(path)
                assert (answer.status_code, answer.json()["code"]) == (503, "storage_failed")
                assert "update this server" in answer.json()["detail"]
            refused = await http.post("/topics/a/messages", content="x")
            assert refused.status_code == 503
