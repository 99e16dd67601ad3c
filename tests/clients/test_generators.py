"""OpenAPI tools accept the description that the server gives of itself, and a generated client works."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.clients.packages import Program, folder_of, install
from tests.harness import DEADLINE, ServerProcess, start_server, start_uvicorn

CHECKER = Program("@apidevtools/swagger-cli@4.0.4", "")
GENERATOR = Program("openapi-python-client==0.29.1", "")
USER = """
import json, sys
from io import BytesIO
from plainmq_client import Client
from plainmq_client.api.publish import publish
from plainmq_client.api.read import read_message, read_messages
from plainmq_client.api.subscribe import stream
from plainmq_client.models import PublishJsonBody
from plainmq_client.types import File

url, topic = sys.argv[1:]
client = Client(base_url=url)
receipt = publish.sync(topic, client=client, body=File(BytesIO(bytes(range(256)))), event="made")
assert read_message.sync(topic, receipt.id, client=client).payload.read() == bytes(range(256))
publish.sync(topic, client=client, body=PublishJsonBody.from_dict({"order": 7}))
first, second = json.loads(read_messages.sync_detailed(topic, client=client).content)["messages"]
assert (first["content_type"], first["event"]) == ("application/octet-stream", "made")
assert (second["content_type"], json.loads(second["data"])) == ("application/json", {"order": 7})
streamed = stream.sync_detailed(topic, client=client, since="earliest", limit=2).content
assert b"event: made\\n" in streamed and b'data: {"order"' in streamed
"""


async def run(*command: str, cwd: Path, **environment: str) -> str:
    """The output of the command, which must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 3 * DEADLINE)
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.fixture(scope="module")
def servers() -> Iterator[list[ServerProcess]]:
    """One of each kind. They give the same description, so each tool reads it once."""
    with start_server() as own, start_uvicorn() as plain:
        yield [own, plain]


@pytest.fixture
def description(servers: list[ServerProcess], tmp_path: Path) -> Path:
    first, second = (httpx.get(f"{server.url}/openapi.json").content for server in servers)
    assert first == second
    path = tmp_path / "openapi.json"
    path.write_bytes(first)
    return path


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed (Debian package npm)")
async def test_swagger_cli_finds_it_valid(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, description: Path
) -> None:
    folder = folder_of(request, tmp_path_factory, CHECKER.package)
    install(CHECKER, folder)
    tool = folder / "node_modules" / ".bin" / "swagger-cli"
    assert "is valid" in await run(str(tool), "validate", description.name, cwd=description.parent)


async def test_a_generated_client_publishes_bytes_and_json_as_they_are(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    servers: list[ServerProcess],
    description: Path,
    topic: str,
    tmp_path: Path,
) -> None:
    folder = folder_of(request, tmp_path_factory, GENERATOR.package)
    install(GENERATOR, folder)
    (tmp_path / "settings.yaml").write_text("post_hooks: []")
    options = ["--path", str(description), "--config", "settings.yaml"]
    paths = os.pathsep.join([str(folder), str(tmp_path / "plainmq-client")])
    output = await run(
        sys.executable, "-m", "openapi_python_client", "generate", *options, cwd=tmp_path, PYTHONPATH=str(folder)
    )
    assert "will not be generated" not in output
    (tmp_path / "use.py").write_text(USER)
    for server in servers:
        await run(sys.executable, "use.py", server.url, topic, cwd=tmp_path, PYTHONPATH=paths)
