"""The commands and the client over TLS: whom they trust, and what they say when they do not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.client import AsyncClient, Message
from tests.harness import DEADLINE, ROOT, ServerProcess
from tests.net.authority import Authority


def run(server: ServerProcess, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PLAINMQ_", "SSL_CERT_"))}
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments, "--url", f"https://localhost:{server.port}"],
        env=clean | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, cwd=ROOT,
        check=False,
    )  # fmt: skip


def test_an_authority_is_named_by_a_flag_or_a_variable(secure: ServerProcess, authority: Authority, topic: str) -> None:
    published = run(secure, "publish", topic, "hello", "--ca", str(authority.ca))
    assert (published.returncode, published.stderr) == (0, "")
    for name in ("PLAINMQ_CA", "SSL_CERT_FILE"):
        got = run(secure, "subscribe", topic, "--since", "earliest", "--count", "1", **{name: str(authority.ca)})
        assert (got.returncode, got.stdout, got.stderr) == (0, "hello\n", "")
    exported = run(secure, "export", "--topic", topic, "--ca", str(authority.ca))
    assert (exported.returncode, '"data":"hello"' in exported.stdout) == (0, True)


@pytest.mark.parametrize("command", [["publish", "foo", "x"], ["subscribe", "foo"], ["export"]])
def test_a_server_with_an_untrusted_certificate_is_refused_at_once(secure: ServerProcess, command: list[str]) -> None:
    """Trying again would not help."""
    done = run(secure, *command)
    assert done.returncode == 1
    assert "is not trusted: " in done.stderr
    assert "--ca or PLAINMQ_CA" in done.stderr
    assert "trying again" not in done.stderr


@pytest.mark.parametrize("content", [None, "", "nonsense"])
def test_a_file_without_certificates_is_a_sentence(secure: ServerProcess, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    done = run(secure, "publish", "foo", "x", "--ca", str(path))
    assert done.returncode == 2
    assert f"{path} has no certificates that can be read" in done.stderr


async def test_the_client_takes_an_authority(secure: ServerProcess, authority: Authority, topic: str) -> None:
    async with AsyncClient(f"https://localhost:{secure.port}", ca=authority.ca) as client:
        await client.publish(topic, b"hello")
        async for item in client.subscribe(topic, since="earliest", limit=1):
            assert isinstance(item, Message)
            assert item.data == b"hello"
