"""What a grant allows: its patterns and nothing else. The reference is the regular expression that a pattern means."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.grant import ANONYMOUS, MAX_PATTERNS, UNAUTHENTICATED, Grant, Patterns, Right, authorise
from app.errors import Forbidden, NotFound, OptionInvalid, TopicInvalid, Unauthorised
from app.messages.topic import TopicFilter, covers

COVERED = [
    ("**", "a"), ("**", "a.b/c"), ("**", "**"), ("**", "*"), ("**", "*.**"), ("a", "a"), ("a.*", "a.b"), ("a.*", "a.*"),
    ("a.**", "a.b"), ("a.**", "a.b/c.d"), ("a.**", "a.*"), ("a.**", "a.**"), ("a.**", "a.*.**"), ("*.b", "a.b"),
    ("*/**", "a/b.**"),
]  # fmt: skip
NOT_COVERED = [
    ("a", "b"), ("a", "a.b"), ("a.b", "a"), ("a.*", "a"), ("a.*", "a.b.c"), ("a.*", "a.**"), ("a.*", "a/b"),
    ("a.**", "a"), ("a.**", "a/b"), ("a.**", "b.c"), ("a.**", "**"), ("a.**", "*.b"), ("*", "**"), ("*", "a.b"),
    ("*.b", "a.c"), ("*.b", "*.*"), ("a.*.c", "a.**"), ("a", "*"), ("A", "a"), ("a.**", "ab.c"), ("a", "a*"),
]  # fmt: skip

segments = st.sampled_from(["a", "b", "*"])
names = st.builds(
    lambda first, more, last: first + "".join(sep + segment for sep, segment in more) + last,
    segments,
    st.lists(st.tuples(st.sampled_from("./"), segments), max_size=3),
    st.sampled_from(["", "", ".**", "/**"]),
)
topics = st.builds(
    lambda first, more: first + "".join(sep + segment for sep, segment in more),
    st.sampled_from(["a", "b", "x"]),
    st.lists(st.tuples(st.sampled_from("./"), st.sampled_from(["a", "b", "x"])), max_size=5),
)


def grant(**rights: Any) -> Grant:
    held: dict[str, Any] = {right: Patterns(patterns) for right, patterns in rights.items()}
    return Grant("somebody", **held)


@pytest.mark.parametrize(("wide", "narrow"), COVERED)
def test_a_pattern_covers_what_lies_within_it(wide: str, narrow: str) -> None:
    assert covers(wide, narrow)


@pytest.mark.parametrize(("wide", "narrow"), NOT_COVERED)
def test_a_pattern_does_not_cover_what_reaches_beyond_it(wide: str, narrow: str) -> None:
    assert not covers(wide, narrow)


@given(names, names, topics)
def test_what_a_covered_pattern_matches_the_wide_one_matches(wide: str, narrow: str, topic: str) -> None:
    if covers(wide, narrow) and TopicFilter([narrow]).matches(topic):
        assert TopicFilter([wide]).matches(topic)


@given(names, topics)
def test_a_topic_is_covered_if_and_only_if_it_matches(wide: str, topic: str) -> None:
    assert covers(wide, topic) == TopicFilter([wide]).matches(topic)


@given(names, names)
def test_a_pattern_whose_every_topic_matches_is_covered(wide: str, narrow: str) -> None:
    """With a name that stands in no pattern in place of each wildcard, short and long."""
    examples = [re.sub(r"\*", "x", narrow.replace("**", rest)) for rest in ("x", "x.x/x.x/x.x", "x/x")]
    if all(TopicFilter([wide]).matches(example) for example in examples):
        assert covers(wide, narrow)


@pytest.mark.parametrize("right", Right)
def test_a_grant_allows_its_rights_on_its_topics_and_no_others(right: Right) -> None:
    some = grant(**{right: ["a.**"]})
    authorise(some, right, "a.b")
    authorise(some, right, "a.*")
    for other in set(Right) - {right}:
        with pytest.raises((Forbidden, NotFound)):
            authorise(some, other, "a.b")
    with pytest.raises((Forbidden, NotFound)):
        authorise(some, right, "b")


def test_every_topic_of_a_selection_must_be_allowed() -> None:
    some = grant(subscribe=["a.**", "b"])
    authorise(some, Right.SUBSCRIBE, TopicFilter(["a.x", "a.*.y", "b"]))
    for beyond in ("c", "**", "b.*", "*.x"):
        with pytest.raises(NotFound):
            authorise(some, Right.SUBSCRIBE, TopicFilter(["a.x", "b", beyond]))


@pytest.mark.parametrize(
    ("right", "error"),
    [
        (Right.PUBLISH, Forbidden),
        (Right.ADMIN, Forbidden),
        (Right.SUBSCRIBE, NotFound),
        (Right.CONSUME, NotFound),
    ],
)
def test_a_client_without_the_right_to_read_gets_not_found(right: Right, error: type[Exception]) -> None:
    with pytest.raises(error):
        authorise(grant(), right, "a")


@pytest.mark.parametrize("right", Right)
def test_an_anonymous_client_may_do_nothing_and_is_asked_for_a_token(right: Right) -> None:
    with pytest.raises(Unauthorised):
        authorise(UNAUTHENTICATED, right, "a")


@pytest.mark.parametrize("right", Right)
def test_without_authentication_every_client_may_do_everything(right: Right) -> None:
    authorise(ANONYMOUS, right, TopicFilter(["a", "b.*", "**"]))


def test_a_grant_has_lawful_patterns_and_not_too_many() -> None:
    with pytest.raises(TopicInvalid):
        Patterns.parse(["a..b"])
    with pytest.raises(OptionInvalid):
        Patterns.parse(f"t{number}" for number in range(MAX_PATTERNS + 1))
