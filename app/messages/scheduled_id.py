"""Ids of scheduled publishes: messages that were published with a delay and have no place in the log yet."""

import re

import msgspec

from ..errors import OptionInvalid

_ID = re.compile(r"([a-z0-9]{1,16})-d(0|[1-9][0-9]{0,17})")


class ScheduledId(msgspec.Struct, frozen=True):
    """`k3f9a2-d7`: the epoch in which the publish was accepted, and its number among the scheduled ones, from 1."""

    epoch: str
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}-d{self.number}"


def parse_scheduled_id(text: str) -> ScheduledId:
    """Raises OptionInvalid for any other text."""
    if match := _ID.fullmatch(text):
        return ScheduledId(match[1], int(match[2]))
    raise OptionInvalid(f"{text[:60]!a} is not the id of a scheduled publish: expected one such as k3f9a2-d7")
