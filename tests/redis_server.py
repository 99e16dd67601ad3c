"""A real Redis server as a child process, on a free port of this machine and in a folder of its own."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.child_server import ChildServer
from tests.harness import free_port

PROGRAM: Final = shutil.which(os.environ.get("REDIS_SERVER", "redis-server"))  # or the path of another one


def redis_client(port: int) -> Any:
    import redis  # of an extra that need not be here

    return redis.Redis(port=port, decode_responses=True)


class RedisServer(ChildServer):
    """`flags`: of redis-server, beside those for its port and folder. `environment`: variables of its own."""

    def __init__(self, folder: Path, *flags: str, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self.flags = flags
        self.environment = environment or {}
        self.client = redis_client(self.port)

    def start(self, *flags: str) -> None:
        assert PROGRAM, "redis-server is not installed"
        command = [
            PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder),
            "--logfile", str(self.folder / "redis.log"), "--repl-diskless-sync-delay", "0",
            "--repl-ping-replica-period", "1", *(flags or self.flags),
        ]  # fmt: skip
        self._process = subprocess.Popen(command, env=os.environ | {**self.environment})
        self.until(self._serves)

    def _serves(self) -> bool:
        import redis

        try:
            return bool(self.client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def kill(self) -> None:
        super().kill()
        self.client.connection_pool.disconnect()

    def follow(self, primary: "RedisServer | None") -> None:
        """Be its replica; None: be a primary."""
        self._follow(*("NO", "ONE") if primary is None else ("127.0.0.1", str(primary.port)))

    def lag(self) -> None:
        """Be the replica of nobody that answers: it keeps what it has, and gets no more."""
        self._follow("127.0.0.1", "1")

    def take_over(self, primary: "RedisServer") -> None:
        """Become the primary in place of one that has died, under its address."""
        primary.kill()
        self.follow(None)
        self.client.config_set("port", primary.port)
        self.client.close()
        self.port, self.client = primary.port, primary.client

    def _follow(self, *target: str) -> None:
        self.client.execute_command("REPLICAOF", *target)

    def is_level_with(self, primary: "RedisServer") -> bool:
        ours, theirs = self.client.info("replication"), primary.client.info("replication")
        return bool(ours["master_link_status"] == "up") and bool(
            ours["slave_repl_offset"] == theirs["master_repl_offset"]
        )


@contextmanager
def redis_server(*flags: str, environment: Mapping[str, str] | None = None) -> Iterator[RedisServer]:
    with TemporaryDirectory() as folder:
        server = RedisServer(Path(folder), *flags, environment=environment)
        try:
            server.start()
            yield server
        finally:
            server.kill()
            server.client.close()


@contextmanager
def sentinel(redis: RedisServer, folder: Path) -> Iterator[int]:
    """One that promotes a replica when the primary has not answered for half a second. Its port."""
    port = free_port()
    settings = folder / "sentinel.conf"
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor main 127.0.0.1 {redis.port} 1\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 1000\n"
    )
    assert PROGRAM
    program = [PROGRAM, str(settings), "--sentinel", "--logfile", str(folder / "sentinel.log")]
    with subprocess.Popen(program) as process:
        try:
            yield port
        finally:
            process.kill()
