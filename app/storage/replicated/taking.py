"""Taking: the messages for one subscriber that a page has are in it only if this node was the first to take them."""

from asyncio import Future, get_running_loop
from collections.abc import Callable
from typing import Any

from ...log.commands.command import Command
from ...log.commands.delivery import Take
from ...log.reading import Page


def take_from(read: "Future[Page]", do: Callable[[Command], "Future[Any]"]) -> "Future[Page]":
    """The page, without messages that others have. Whoever waits is called in the turn in which it is known."""
    answer: Future[Page] = get_running_loop().create_future()

    def on_read(read: "Future[Page]") -> None:
        if answer.done():
            return
        if (error := read.exception()) is not None:
            answer.set_exception(error)
        elif wanted := read.result().for_one:
            do(Take(wanted)).add_done_callback(lambda taken: on_taken(read.result(), taken))
        else:
            answer.set_result(read.result())

    def on_taken(page: Page, taken: "Future[frozenset[int]]") -> None:
        if not answer.done():
            answer.set_result(page.without_others(frozenset() if taken.exception() else taken.result()))

    if read.done():
        on_read(read)
    else:
        read.add_done_callback(on_read)
    return answer
