"""Certificates: what is wrong with one is said at the start, and a new one takes over while connections go on."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from app.net.reloads import ReloadHooks
from app.net.sockets import AddressUnavailable
from tests.harness import DEADLINE, ROOT, ServerProcess, at_a_terminal, start_server
from tests.net.authority import Authority
from tests.net.test_tls import dial, stream


@pytest.fixture
def own(tmp_path: Path) -> Authority:
    """An authority whose files this test may change."""
    return Authority(tmp_path)


async def shown(server: ServerProcess, authority: Authority, port: int) -> bytes:
    """The certificate that a new connection is shown."""
    async with dial(server, authority, port) as (_, writer):
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return certificate


def serve(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--tcp-port", "0", *flags]
    return subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def _encrypt(own: Authority) -> None:
    key = load_pem_private_key(own.key.read_bytes(), None)
    secret = BestAvailableEncryption(b"secret")
    own.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))


BROKEN: dict[str, tuple[Callable[[Authority], object], str]] = {
    "no certificate": (lambda own: own.certificate.unlink(), "certificate.pem cannot be read: No such file"),
    "no key": (lambda own: own.key.unlink(), "key.pem cannot be read: No such file"),
    "an empty certificate": (lambda own: own.certificate.write_text(""), "certificate.pem holds no certificate"),
    "no key in its file": (lambda own: own.key.write_bytes(own.ca.read_bytes()), "key.pem holds no private key"),
    "another's key": (lambda own: own.key.write_bytes(own.stranger("b").read_bytes()), "does not belong to the cert"),
    "an encrypted key": (_encrypt, "key.pem is encrypted: give it without a passphrase"),
    "half a key": (lambda own: own.key.write_bytes(own.key.read_bytes()[:99]), "cannot be used: "),
}


@pytest.mark.parametrize(("spoil", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_certificate_that_cannot_be_used_is_a_sentence_at_the_start(
    own: Authority, spoil: Callable[[Authority], object], sentence: str
) -> None:
    spoil(own)
    done = serve(*own.flags)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("flags", [["--tls-key", "key.pem"], ["--tcp-tls", "on"]])
def test_tls_needs_a_certificate(flags: list[str]) -> None:
    done = serve(*flags)
    assert (done.returncode, "expected --tls-cert too" in done.stderr) == (1, True)


async def test_a_file_may_hold_both(own: Authority) -> None:
    with start_server("--tls-cert", str(own.stranger("localhost")), tcp_port=0) as server:
        assert await shown(server, own, server.port)


async def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on(own: Authority) -> None:
    with start_server(*own.flags, "--tcp-tls", "on") as server:
        ports = (server.port, server.tcp_port)
        old = [await shown(server, own, port) for port in ports]
        assert old[0] == old[1]
        async with (
            stream(server, own, "/topics/foo/stream") as events,
            dial(server, own, server.tcp_port) as (reader, writer),
        ):
            own.write("mq.example.org")
            assert [await shown(server, own, port) for port in ports] == old
            server.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(DEADLINE):
                while (new := [await shown(server, own, port) for port in ports])[0] == old[0]:
                    pass
            assert new[0] == new[1]
            writer.write(b"pub foo hello\n")
            assert (await reader.readline()).startswith(b"OK ")
            assert await events.data(1) == ["hello"]


@pytest.mark.parametrize("spoil", ["no key", "another's key", "an encrypted key", "half a key"])
async def test_a_broken_certificate_is_refused_and_the_old_one_stays(own: Authority, spoil: str) -> None:
    with start_server(*own.flags, tcp_port=0) as server:
        old = await shown(server, own, server.port)
        own.write()
        change, sentence = BROKEN[spoil]
        change(own)
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr
        async with asyncio.timeout(DEADLINE):
            line = await asyncio.to_thread(server.process.stderr.readline)
        assert f"the certificate in {own.certificate} was not loaded, the old one stays: " in line
        assert sentence in line
        assert await shown(server, own, server.port) == old
        own.write()  # and what was broken can be mended
        server.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(DEADLINE):
            while await shown(server, own, server.port) == old:
                pass


async def test_a_client_without_a_server_name_is_shown_it_too(own: Authority) -> None:
    with start_server(*own.flags, tcp_port=0) as server:
        context = own.trust()
        context.check_hostname = False
        _, writer = await asyncio.open_connection(server.host, server.port, ssl=context, server_hostname="")
        assert writer.get_extra_info("ssl_object").getpeercert()
        writer.transport.abort()


def test_a_hang_up_with_nothing_to_read_again_harms_nobody() -> None:
    with start_server(tcp_port=0) as server:
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr
        assert "there is nothing to read again" in server.process.stderr.readline()
        assert server.stop() == 0


def test_closing_the_terminal_stops_the_server_in_good_order() -> None:
    with at_a_terminal() as (process, _):
        process.send_signal(signal.SIGHUP)  # the kernel would send it to who has the terminal as its own,
        process.send_signal(signal.SIGHUP)  # and its shell does, too
        assert process.wait(DEADLINE) == 0


async def test_a_reload_that_fails_unexpectedly_does_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stale: dict[str, int] = {}
    reloads, done = ReloadHooks(stale), []
    reloads.add("first", "the first", lambda: next(iter(())))
    reloads.add("second", "the second", lambda: done.append("second"))
    reloads.run()
    reloads.close()
    assert (done, stale) == (["second"], {"first": 1, "second": 0})
    assert "the first was not loaded, the old one stays" in caplog.text
    assert "StopIteration" in caplog.text


async def test_what_could_not_be_read_is_tried_again_until_it_can(caplog: pytest.LogCaptureFixture) -> None:
    stale: dict[str, int] = {}
    reloads, tried, taken = ReloadHooks(stale, retry=0.001), [0], asyncio.Event()

    def read() -> None:
        tried[0] += 1
        if tried[0] < 5:
            raise AddressUnavailable("not yet")
        taken.set()

    reloads.add("first", "the first", read)
    reloads.run()
    assert stale == {"first": 1}
    async with asyncio.timeout(DEADLINE):
        await taken.wait()
    assert (stale, tried[0]) == ({"first": 0}, 5)
    assert caplog.text.count("the first was not loaded") == 1  # not at each try
