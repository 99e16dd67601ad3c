from collections.abc import Iterator

import pytest

from tests.clients.conftest import browser  # noqa: F401  (a fixture here too)
from tests.harness import ServerProcess, start_server
from tests.net.authority import Authority


@pytest.fixture(scope="package")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="package")
def secure(authority: Authority) -> Iterator[ServerProcess]:
    """A shared server with TLS on both ports: use the fixture `topic`."""
    with start_server(*authority.flags, "--tcp-tls", "on") as process:
        yield process


@pytest.fixture(scope="package")
def impatient(authority: Authority) -> Iterator[ServerProcess]:
    """The same, with time-outs of at most half a second."""
    flags = ["--tcp-tls", "on", "--head-timeout", "500ms", "--stall-timeout", "500ms", "--keep-alive", "100ms"]
    with start_server(*authority.flags, *flags) as process:
        yield process
