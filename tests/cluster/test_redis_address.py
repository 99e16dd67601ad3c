"""The address of a journal in Redis."""

import pytest

from app.errors import OptionInvalid
from app.storage.replicated.redis.address import Address, parse_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", Address((("h", 6379),))),
        ("redis://h:1/2?name=n", Address((("h", 1),), db=2, name="n")),
        ("redis://[::1]:1", Address((("::1", 1),))),
        ("redis://:p%40%2F@h", Address((("h", 6379),), password="p@/")),
        ("redis://u:p@h", Address((("h", 6379),), username="u", password="p")),
        ("rediss://h?ca=/c.pem", Address((("h", 6379),), tls={"ssl_ca_certs": "/c.pem"})),
        (
            "redis+sentinel://u:p@a,b:2/main/3?sentinel_password=s",
            Address((("a", 26379), ("b", 2)), "main", 3, username="u", password="p", sentinel={"password": "s"}),
        ),
    ],
)
def test_an_address_says_where_the_journal_is(url: str, address: Address) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis:", "such as redis://"),
        ("redis://", "such as redis://"),
        ("redis://:secret@h:99999", "HOST:PORT"),
        ("redis://:secret@h:x", "HOST:PORT"),
        ("redis://:secret@", "HOST:PORT"),
        ("redis://:secret@a,b", "Sentinels"),
        ("redis://:secret@h/x", "number of a database"),
        ("redis://:secret@h/0/1", "number of a database"),
        ("redis://:secret@h?name=", "a name of 1 to 64"),
        ("redis://:secret@h?name={x}", "a name of 1 to 64"),
        ("redis://:secret@h?nam=x", "not an option"),
        ("redis://:secret@h?ca=x", "not an option"),
        ("redis://h/#x", "%23"),
        ("redis+sentinel://:secret@h", "name of the service"),
        ("redis://:secret@a..b", "HOST:PORT"),
        (f"redis://:secret@{'a' * 64}", "HOST:PORT"),
        ("redis://:secret@[::1", "IPv6"),
        ("redis://:secret[@h", "IPv6"),
        ("redis://:[secret]@h", "IPv6"),
        ("redis://:secret@h?name=a&name=b", "twice"),
    ],
)
def test_another_address_is_refused_without_its_password(url: str, expected: str) -> None:
    with pytest.raises(OptionInvalid, match=expected) as refused:
        parse_address(url)
    assert "secret" not in str(refused.value)


def test_an_address_is_shown_without_its_password() -> None:
    assert str(parse_address("redis+sentinel://u:secret@a,b/main")) == "main at a:26379,b:26379"
