"""The address of a journal in JetStream."""

import pytest

from app.errors import OptionInvalid
from app.storage.replicated.nats.address import Address, Tls, parse_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("nats://h", Address((("h", 4222),))),
        ("nats://h:1,[::1]:2?name=n-_1&replicas=3", Address((("h", 1), ("::1", 2)), "n-_1", 3)),
        ("nats://u:p%40%2F@h", Address((("h", 4222),), user="u", password="p@/")),
        ("nats://t%2F@h", Address((("h", 4222),), token="t/")),
        ("nats://h?credentials=/a.creds", Address((("h", 4222),), credentials="/a.creds")),
        ("nats+tls://h", Address((("h", 4222),), tls=Tls())),
        (
            "nats+tls://h?ca=/c.pem&cert=/d.pem&key=/k.pem",
            Address((("h", 4222),), tls=Tls("/c.pem", "/d.pem", "/k.pem")),
        ),
    ],
)
def test_an_address_says_where_the_journal_is(url: str, address: Address) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nats:", "such as nats://"),
        ("nats://", "such as nats://"),
        ("nats://secret@h:99999", "HOST:PORT"),
        ("nats://secret@h:x", "HOST:PORT"),
        ("nats://u:secret@", "HOST:PORT"),
        ("nats://u:secret@a,,b", "HOST:PORT"),
        ("nats://u:secret@h/demo", "name of the log as an option"),
        ("nats://u:secret@h?name=", "a name of 1 to 64"),
        ("nats://u:secret@h?name=a.b", "a name of 1 to 64"),
        ("nats://u:secret@h?name=a*", "a name of 1 to 64"),
        ("nats://u:secret@h?replicas=2", "1, 3 or 5 replicas"),
        ("nats://u:secret@h?nam=x", "not an option"),
        ("nats://u:secret@h?ca=x", "not an option"),
        ("nats://h/#x", "expected the name|%23"),
        ("nats://h#x", "%23"),
        ("nats://:secret@a..b", "HOST:PORT"),
        (f"nats://:secret@{'a' * 64}", "HOST:PORT"),
        ("nats://:secret@[::1", "IPv6"),
        ("nats://:secret[@h", "IPv6"),
        ("nats://:[secret]@h", "IPv6"),
        ("nats://:secret@h?name=a&name=b", "twice"),
    ],
)
def test_another_address_is_refused_without_its_password(url: str, expected: str) -> None:
    with pytest.raises(OptionInvalid, match=expected) as refused:
        parse_address(url)
    assert "secret" not in str(refused.value)


def test_an_address_is_shown_without_its_password() -> None:
    assert str(parse_address("nats://u:secret@a,b:1")) == "a:4222,b:1"
