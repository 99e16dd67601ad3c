"""What is required of a server of Redis, by what it says of itself."""

import pytest

from app.storage.replicated.redis.server import Durability, Server, parse_info
from app.storage.unusable import StoreUnusable

GOOD = {"redis_version": "7.0.15", "role": "master", "maxmemory_policy": "noeviction", "connected_slaves": "0"}
ALWAYS = {"appendfsync": "always"}


def server(info: dict[str, str] | None = None, writes: dict[str, str] | None = None) -> Server:
    return Server("h:1", GOOD | (info or {}), writes or {})


def test_a_server_as_it_should_be_is_accepted() -> None:
    for version in ("7.0.0", "7.2.4", "8.2.1", "10.0"):
        server({"redis_version": version}).check(Durability())


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"redis_version": "6.2.14"}, "7.0 or later"),
        ({"redis_version": ""}, "7.0 or later"),
        ({"role": "slave"}, "is a replica"),
        ({"maxmemory_policy": "allkeys-lru"}, "noeviction"),
        ({"maxmemory_policy": "volatile-ttl"}, "noeviction"),
    ],
)
def test_another_server_is_refused_with_a_sentence(info: dict[str, str], expected: str) -> None:
    with pytest.raises(StoreUnusable, match=expected):
        server(info).check(Durability())


@pytest.mark.parametrize(
    ("info", "writes", "usable"),
    [
        ({"aof_enabled": "1"}, ALWAYS, True),
        ({"aof_enabled": "0"}, ALWAYS, False),
        ({"aof_enabled": "1"}, {"appendfsync": "everysec"}, False),
        ({"aof_enabled": "1"}, {}, False),
        ({"aof_enabled": "1", "redis_version": "7.2.0"}, {}, True),  # WAITAOF
        ({"aof_enabled": "0", "redis_version": "7.2.0"}, {}, False),
    ],
)
def test_a_disk_is_confirmed_only_where_it_can_be(info: dict[str, str], writes: dict[str, str], usable: bool) -> None:
    if usable:
        server(info, writes).check(Durability("disk"))
    else:
        with pytest.raises(StoreUnusable, match="appendfsync always"):
            server(info, writes).check(Durability("disk"))


def test_a_server_without_a_copy_of_its_writes_is_warned_of() -> None:
    assert "neither a replica nor a file" in server().warning()
    assert not server({"aof_enabled": "1"}).warning()
    assert not server({"connected_slaves": "1"}).warning()


def test_the_fields_of_info_are_read() -> None:
    assert parse_info(b"# Server\r\nrun_id:abc\r\nos:Linux:5\r\n\r\n") == {"run_id": "abc", "os": "Linux:5"}
