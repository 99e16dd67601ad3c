"""LineSplitter: the lines do not depend on the pieces, and memory is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from app.tcp.splitter import LineSplitter

LIMIT = 16


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    """The stream in pieces of these sizes. The last size is repeated."""
    pieces, sizes = [], sizes or [1]
    while stream:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        pieces.append(stream[:size])
        stream = stream[size:]
    return pieces


@given(
    st.lists(st.text("ab\r", max_size=3 * LIMIT).map(str.encode)),
    st.lists(st.integers(1, 3 * LIMIT), max_size=8),
)
def test_the_lines_do_not_depend_on_the_pieces(texts: list[bytes], sizes: list[int]) -> None:
    lines = LineSplitter(LIMIT)
    found: list[bytes] = []
    for piece in cut(b"\n".join(texts), sizes):
        found += lines.feed(piece)
        assert len(lines.partial) <= LIMIT
    found += lines.end()
    expected = texts if texts and texts[-1] else texts[:-1]
    assert [line[: LIMIT + 1] for line in found] == [line[: LIMIT + 1] for line in expected]


def test_a_line_that_is_too_long_is_known_before_it_ends() -> None:
    lines = LineSplitter(LIMIT)
    assert lines.feed(b"x" * LIMIT) == []
    assert lines.feed(b"x") == [b"x" * (LIMIT + 1)]
    assert lines.feed(b"x" * 1_000_000) == []
    assert not lines.partial
    assert lines.feed(b"x\nnext\n") == [b"next"]


def test_a_dropped_line_is_not_returned_at_the_end() -> None:
    lines = LineSplitter(LIMIT)
    lines.feed(b"x" * 100)
    assert lines.end() == []
