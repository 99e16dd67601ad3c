"""A token that is shown in every way appears nowhere: not in answers, errors or metrics, nor in what the server logs.

Another ASGI server may log whole URLs: that is why none of ours ever holds a token that is good for longer.
"""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from tests.access.conftest import Guarded, guarded
from tests.access.keys import claims, signed
from tests.harness import http_client
from tests.line_client import lines


@pytest.mark.parametrize("kind", ["own protocol", "plain ASGI"])
async def test_a_token_appears_nowhere(kind: str, tmp_path: Path) -> None:
    with guarded(tmp_path, kind) as server:
        secrets = [server.good, signed(claims()), server.expired, "pmq_" + "canary" * 8, signed(claims(), "x" * 64)]
        tickets: list[str] = []
        seen = [text for token in secrets for text in await _shown_over_http(server, token, tickets)]
        seen += [text for token in [*secrets, *tickets] for text in await _shown_to_the_line_port(server, token)]
        async with http_client(server.process.url, headers=_bearer(server.good)) as http:
            seen += [(await http.get(path)).text for path in ("/metrics", "/topics", "/topics/canary")]
        process = server.process.process
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        seen.append(server.process.banner + await asyncio.to_thread(process.stderr.read))
    assert len(tickets) == 2
    assert len(seen) > 100
    for secret in [*secrets, *tickets]:
        assert not [text for text in seen if secret in text]


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _shown_over_http(server: Guarded, token: str, tickets: list[str]) -> list[str]:
    """Heads and bodies of the answers. Two answers do have a secret, as they should: it is taken out of them."""
    seen = []
    async with http_client(server.process.url) as http:

        async def ask(method: str, path: str, **headers: str) -> httpx.Response:
            http.cookies.clear()
            answer = await http.request(method, path, headers=headers)
            kept = [pair for pair in answer.headers.multi_items() if pair[0] != "set-cookie"]
            seen.append(f"{answer.status_code} {kept}" + ("" if path == "/tickets" else answer.text))
            return answer

        for shown in (_bearer(token), {"Authorization": f"Basic {token}"}, {"Cookie": f"plainmq={token}"}):
            await ask("POST", "/topics/canary/messages", **shown)
            await ask("POST", "/topics/canary/messages?evnt=x", **shown)
            await ask("GET", "/topics/canary/stream?limit=1&since=earliest", **shown)
            await ask("POST", "/topics/canary/groups/-/pull", **shown)
            await ask("PUT", "/topics/canary", **shown)
            await ask("POST", "/session", **shown)
            await ask("DELETE", "/session", **shown)
            await ask("GET", "/nothing", **shown)
            await ask("PATCH", "/topics/canary", **shown)
            await ask("POST", "/topics/canary/messages", **shown, Origin="https://evil.example")
        for option in ("token", "access_token", "ticket", "auth"):
            await ask("GET", f"/topics/canary/stream?timeout=1ms&{option}={token}")
            await ask("GET", f"/livez?{option}={token}")
        answer = await ask("POST", "/tickets", **_bearer(token))
        if answer.status_code == 201:
            ticket = answer.json()["ticket"]
            tickets.append(ticket)
            for _ in range(2):
                await ask("GET", f"/topics/canary/stream?limit=1&since=earliest&ticket={ticket}")
    return seen


async def _shown_to_the_line_port(server: Guarded, token: str) -> list[str]:
    async with lines(server.process) as peer:
        peer.send(
            f"auth {token} {token}", f"auht {token}", token, f"authorization: bearer {token}",
            f'{{"command":"auth","tokn":"{token}"}}', f'{{"command":"auth","token":["{token}"]}}',
            f'{{"command":"auth"{token}', f"{{'command':'auth','tokn':'{token}'}}",
            f"{{'command':'auth','token':{token}}}", f"{{'command':'auth'{token}", f"auth {token}",
            f'{{"command":"auth","token":"{token}"}}', f"{{'command':'auth','token':'{token}'}}",
            "pub canary x", "sub canary earliest", "topics", "help", "quit",
        )  # fmt: skip
        seen = [(await peer.next()).decode()]
        while seen[-1]:
            seen.append((await peer.next()).decode())
    return seen
