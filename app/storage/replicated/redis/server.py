"""What a journal needs of its Redis server, and what it says of itself."""

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec

from ...unusable import StoreUnusable

Policy = Literal["primary", "disk", "replicated"]

OLDEST: Final = (7, 0)  # scripts with flags
WAITAOF: Final = (7, 2)  # the version that has this command


class Durability(msgspec.Struct, frozen=True):
    """When an entry is confirmed: the `primary` has it; its `disk` has it; or so many replicas have it too."""

    policy: Policy = "primary"
    replicas: int = 0

    def __str__(self) -> str:
        return f"redis:{self.policy}:{self.replicas}" if self.policy == "replicated" else f"redis:{self.policy}"


class Server(msgspec.Struct, frozen=True):
    """`writes`: of CONFIG, `appendfsync` and so on; empty if we may not ask."""

    address: str
    info: Mapping[str, str]
    writes: Mapping[str, str]

    @property
    def is_primary(self) -> bool:
        return self.info.get("role") == "master"

    @property
    def version(self) -> tuple[int, int]:
        match = re.match(r"(\d+)\.(\d+)", self.info.get("redis_version", ""))
        return (int(match[1]), int(match[2])) if match else (0, 0)

    @property
    def syncs_each_write(self) -> bool:
        return self.info.get("aof_enabled") == "1" and self.writes.get("appendfsync") == "always"

    def check(self, durability: Durability) -> None:
        """Raises StoreUnusable."""
        for sentence in self._failings(durability):
            raise StoreUnusable(f"Redis at {self.address} {sentence}")

    def _failings(self, durability: Durability) -> Iterator[str]:
        if self.version < OLDEST:
            yield f"has the version {self.info.get('redis_version')}: expected 7.0 or later"
        if not self.is_primary:
            yield "is a replica: name the primary, or its Sentinels as redis+sentinel://HOST,HOST/SERVICE"
        if (policy := self.info.get("maxmemory_policy")) != "noeviction":
            yield (
                f"may delete messages when its memory is full (maxmemory-policy {policy}): expected "
                "`maxmemory-policy noeviction`"
            )
        if durability.policy == "disk" and not self._can_confirm_disk():
            yield (
                "cannot confirm that a message is on its disk: set `appendonly yes` and `appendfsync always`, and let "
                "this user read them with CONFIG GET"
            )

    def _can_confirm_disk(self) -> bool:
        return self.syncs_each_write or (self.version >= WAITAOF and self.info.get("aof_enabled") == "1")

    def warning(self) -> str:
        """Why messages could be lost with this server alone; empty if nothing is wrong."""
        if self.info.get("aof_enabled") == "1" or self.info.get("connected_slaves", "0") != "0":
            return ""
        return (
            f"Redis at {self.address} has neither a replica nor a file of its writes (appendonly no): after its "
            "restart, the messages that no server of plainmq has in memory are lost"
        )


def parse_info(text: bytes) -> dict[str, str]:
    """The lines `field:value` of INFO."""
    lines = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {field: value for field, colon, value in lines if colon and not field.startswith("#")}
