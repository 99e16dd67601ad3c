"""Tickets of servers that share a log."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.access import tickets as bounds
from app.access.grant import ANONYMOUS
from app.access.spent_tickets import LIFETIME
from app.access.startup import TICKET_KEY_FILE
from app.access.tickets import TicketClaims, Tickets, parse_ticket
from app.errors import Unauthorised


class Log:
    """What a ticket's server sees of the log; what it tells arrives when the test says so."""

    def __init__(self, name: str = "log") -> None:
        self.origin = name
        self.clock = 1_000.0
        self.told: list[tuple[int, bool]] = []
        self.on_ticket: Callable[[int, bool], None]

    def now(self) -> float:
        return self.clock

    def tell_ticket(self, number: int, spent: bool) -> None:
        self.told.append((number, spent))


class Servers:
    def __init__(self, folder: Path, names: tuple[str, str] = ("log", "log")) -> None:
        self.logs = [Log(name) for name in names]
        self.tickets = [Tickets(folder / TICKET_KEY_FILE) for _ in names]
        for tickets, log in zip(self.tickets, self.logs, strict=True):
            tickets.share(log)
        self.pass_time(1.0)

    def pass_time(self, seconds: float) -> None:
        for log in self.logs:
            log.clock += seconds

    def deliver(self) -> None:
        """What one has told arrives at the other."""
        for teller, hearer in (self.logs, self.logs[::-1]):
            for news in teller.told:
                hearer.on_ticket(*news)
            teller.told = []

    def make(self) -> TicketClaims:
        made = self.tickets[0].make(ANONYMOUS, 0.0)
        presented = parse_ticket(made.ticket)
        assert self.tickets[1].grant_of(presented, [ANONYMOUS]) is ANONYMOUS
        return presented.claims


def test_a_ticket_of_one_server_opens_one_stream_at_another(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    first, second = servers.tickets
    claims = servers.make()
    second.spend(claims, "stream")
    servers.deliver()
    for tickets in (first, second):
        with pytest.raises(Unauthorised):
            tickets.spend(claims, "again")


def test_a_ticket_that_is_unspent_again_is_so_everywhere(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    first, second = servers.tickets
    claims = servers.make()
    second.spend(claims, "stream")
    second.ended("stream", lost=True)
    servers.deliver()
    first.spend(claims, "again")
    servers.deliver()
    assert not second.is_unspent(claims)


def test_what_was_spent_at_two_servers_at_once_is_given_back_by_neither(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    first, second = servers.tickets
    claims = servers.make()
    first.spend(claims, "stream")
    second.spend(claims, "stream")
    servers.deliver()
    second.ended("stream", lost=True)
    servers.deliver()
    assert not any(tickets.is_unspent(claims) for tickets in servers.tickets)


def test_a_ticket_goes_by_the_clock_of_the_log(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    claims = servers.make()
    servers.pass_time(LIFETIME - 0.1)
    assert servers.tickets[1].is_unspent(claims)
    servers.pass_time(0.1)
    assert not servers.tickets[1].is_unspent(claims)


def test_a_server_that_starts_knows_not_which_older_tickets_are_spent_and_takes_none(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    claims = servers.make()
    third, log = Tickets(tmp_path / TICKET_KEY_FILE), Log()
    log.clock = servers.logs[0].clock + 1
    third.share(log)
    assert not third.is_unspent(claims)
    servers.pass_time(2.0)
    assert third.is_unspent(servers.make())


def test_a_ticket_of_another_log_opens_nothing(tmp_path: Path) -> None:
    servers = Servers(tmp_path, ("one", "other"))
    assert not servers.tickets[1].is_unspent(servers.make())


def test_of_more_spent_tickets_than_can_be_remembered_none_is_good_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MAX_SPENT", 5)
    servers = Servers(tmp_path)
    first, second = servers.tickets
    made = [servers.make() for _ in range(6)]
    for claims in made[:5]:
        first.spend(claims, claims.number)
    servers.deliver()
    for tickets in (first, second):
        assert not any(tickets.is_unspent(claims) for claims in made)
    servers.pass_time(0.1)
    assert second.is_unspent(servers.make())
