"""Deadlines that are set while others are given up."""

from math import inf

from app.log.deadlines import Deadlines


def test_a_deadline_that_is_set_meanwhile_and_due_is_given_up_too() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for time in (900.0, 10.0):  # the first ones stay behind, and make the rest small beside them
        for key in range(100):
            deadlines.set(key, time)
    given = []
    for key in deadlines.due(20.0):
        given.append(key)
        if 90 <= key < 100:
            deadlines.set(key + 10, 11.0)
    assert given == list(range(110))
    assert deadlines.next() == inf
