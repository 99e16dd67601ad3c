"""The limits that are no settings stand in docs/limits.md as they are in the code, and each setting's default is what
was promised."""

import pytest

from app.log import idempotency
from app.messages import headers, lease, message, topic
from app.settings import Settings
from app.tcp.dialects import python_literals
from app.web.api import lists, read
from app.web.fastpath import limits
from tests.docs.pages import DOCS

PAGE = " ".join((DOCS / "limits.md").read_text().split())

DEFAULTS = {
    "max_message": "1MiB", "max_batch": "16MiB", "max_batch_messages": "10000", "max_line": "1536KiB",
    "max_head": "16KiB", "head_timeout": "10s", "body_timeout": "30s", "max_topics": "10000", "topic_idle": "1h",
    "max_messages": "1000", "max_bytes": "8MiB", "max_age": "1d", "max_total_bytes": "256MiB",
    "max_disk_bytes": "10GiB", "min_free_disk": "512MiB", "max_subscribers": "10000", "max_client_subscribers": "1000",
    "max_tcp_clients": "10000", "auth_timeout": "10s", "stall_timeout": "10s", "send_buffer": "64KiB",
    "keep_alive": "15s", "stream_age": "1h", "publish_rate": "1000", "publish_burst": "2000",
    "max_failed_logins": "10", "drain_timeout": "10s",
}  # fmt: skip


@pytest.mark.parametrize(("name", "default"), DEFAULTS.items())
def test_a_limit_is_what_was_promised(name: str, default: str) -> None:
    assert str(getattr(Settings(), name)) == default


@pytest.mark.parametrize(
    "sentence",
    [
        f"a topic has at most {topic.MAX_LENGTH:,} characters",
        f"a stream has at most {topic.MAX_FILTER_NAMES} topics and patterns, "
        f"a pattern at most {topic.MAX_SEGMENTS} segments, of which {topic.MAX_WILDCARDS} may be `*`",
        f"an event name, a `key` and an `Idempotency-Key` have at most {message.MAX_EVENT} characters",
        f"a key is remembered for {idempotency.WINDOW / 60:.0f} minutes or {idempotency.MAX_KEYS:,} keys",
        f"a page has at most {read.MOST:,} messages and about 1 MiB, a pull {lease.MAX_LEASES} messages",
        f"a message has at most {headers.MAX_HEADERS} headers, and {headers.MAX_HEADER_BYTES >> 10} KiB of them",
        f"scheduled messages has at most {lists.MOST:,} entries in a page",
        f"a worker has at most {lease.MAX_LEASES} messages at a time",
        f"a Python literal has at most {python_literals.MAX_LITERAL >> 10} KiB, "
        f"{python_literals.MAX_BARE:,} characters and "
        f"{python_literals.MAX_STRUCTURE} brackets, commas and operators outside quotes, "
        f"and is nested {python_literals.MAX_NESTING} deep",
        f"a request has at most {limits.MAX_HEADERS} headers, and a target of {limits.MAX_TARGET >> 10} KiB",
    ],
)
def test_the_page_says_what_the_code_has(sentence: str) -> None:
    assert sentence in PAGE


def test_the_other_constants_are_those_in_words() -> None:
    assert (message.MAX_EVENT, message.MAX_IDEMPOTENCY_KEY) == (128, 128)
    assert (message.MAX_PUBLISH_DELAY, lease.MAX_LEASE_SECONDS, limits.MIN_BODY_RATE) == (366 * 86_400, 3_600, 1_024)
