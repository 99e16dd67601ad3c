"""Which tickets an authenticator redeems, whatever the clocks say and whatever became of their streams."""

import hmac
import secrets
import weakref
from base64 import urlsafe_b64encode
from pathlib import Path

import msgspec
import pytest

from app.access.authenticator import Authenticator
from app.access.claims import every_right
from app.access.grant import ANONYMOUS, Grant
from app.access.jwt_keys import Expected, JwtKeys, read_key
from app.access.spent_tickets import LIFETIME
from app.access.startup import TICKET_KEY_FILE
from app.access.tickets import ARRIVED, KEY_BYTES, Tickets
from app.access.tokens import TokenFile, make_token
from app.errors import NotFound, Unauthorised
from app.web.sse import CHUNKED_RAW, SSE_RAW, Encoders, marked
from tests.access.keys import SECRET, claims, put, signed


class Opened:
    """A stream that a ticket has opened."""

    def revoke(self) -> None:
        raise AssertionError("its token is good")


class Desk:
    """An authenticator with clocks of our own, and a token that is good for so long. `ahead`: of the time of day."""

    def __init__(self, folder: Path, seconds: float | None = None, tickets: Tickets | None = None) -> None:
        self.now, self.ahead = 1_000_000.0, 0.0
        self.path = folder / "tokens"
        self.token = make_token(self.path, "somebody", every_right(), seconds and self.now + seconds)
        keys = JwtKeys([read_key(f"HS256:{put(folder / 'secret', SECRET.encode())}")], Expected())
        self.authenticator = Authenticator(
            file=TokenFile(self.path), keys=keys, clock=lambda: self.now + self.ahead,
            tickets=tickets or Tickets(clock=lambda: self.now),
        )  # fmt: skip

    def ticket(self) -> str:
        return self.authenticator.make_ticket(self.authenticator.authenticate(self.token, "")).ticket

    def is_good(self, ticket: str, way_back: str = "") -> bool:
        try:
            self.open(ticket, way_back)
        except Unauthorised:
            return False
        return True

    def open(self, ticket: str, way_back: str = "") -> "Opened":
        """A stream. Raises Unauthorised."""
        redeemed = self.authenticator.redeem_ticket(ticket, "/a", way_back, "")
        assert redeemed.grant.name == "somebody"
        with self.authenticator.spending(redeemed.ticket, opened := Opened()):
            return opened

    def end(self, stream: "Opened", *, lost: bool) -> None:
        self.authenticator.unregister(stream, lost=lost)


def test_a_ticket_is_good_again_when_its_stream_was_lost_before_it_arrived(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    ticket = desk.ticket()
    for _ in range(3):
        stream = desk.open(ticket)
        assert not desk.is_good(ticket)  # there is a stream
        desk.now += ARRIVED - 0.001
        desk.end(stream, lost=True)
        desk.end(stream, lost=True)
    stream = desk.open(ticket)
    desk.now += ARRIVED
    desk.end(stream, lost=True)
    assert not desk.is_good(ticket)


def test_a_ticket_is_not_good_again_after_a_stream_that_the_server_has_ended(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    ticket = desk.ticket()
    stream = desk.open(ticket)
    for lost in (False, True):  # the connection ends too
        desk.end(stream, lost=lost)
        assert not desk.is_good(ticket)


def test_a_lost_stream_makes_no_ticket_good_for_longer(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    ticket = desk.ticket()
    desk.now += LIFETIME - 1
    stream = desk.open(ticket)
    desk.now += 1
    desk.end(stream, lost=True)
    assert not desk.is_good(ticket)


def test_a_lost_stream_gives_back_no_ticket_but_its_own(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first, second = desk.ticket(), desk.ticket()
    lost, way_back = desk.open(first), desk.authenticator.redeem_ticket(second, "/a", "", "").stream_pass
    desk.open(second)
    again = desk.open(second, way_back)  # with its pass it spends nothing, so it gives nothing back
    desk.end(again, lost=True)
    desk.end(lost, lost=True)
    assert not desk.is_good(second)
    assert desk.is_good(first)


def test_a_ticket_is_unspent_when_the_stream_is_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    ticket = desk.ticket()
    redeemed = desk.authenticator.redeem_ticket(ticket, "/a", "", "")
    with pytest.raises(NotFound), desk.authenticator.spending(redeemed.ticket, Opened()):
        raise NotFound("no such group")
    assert desk.is_good(ticket)
    with pytest.raises(Unauthorised), desk.authenticator.spending(redeemed.ticket, Opened()):
        raise AssertionError("another stream has spent it meanwhile")


def test_streams_that_have_arrived_are_not_remembered(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    opened = []
    for _ in range(10):
        opened.append(weakref.ref(desk.open(desk.ticket())))
        desk.now += ARRIVED
    assert [stream() is None for stream in opened] == [True] * 9 + [False]


def test_a_ticket_that_is_too_old_is_spent(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first, second = desk.ticket(), desk.ticket()
    desk.now += LIFETIME - 0.001
    assert desk.is_good(first)
    desk.now += 0.001
    assert not desk.is_good(second)


@pytest.mark.parametrize("step", [0.0, 0.4, 0.5, 0.99])
def test_a_spent_ticket_is_known_as_long_as_it_could_be_used(tmp_path: Path, step: float) -> None:
    desk = Desk(tmp_path)
    desk.is_good(desk.ticket())  # the clock of what is spent runs
    desk.now += LIFETIME * step
    ticket = desk.ticket()
    assert desk.is_good(ticket)
    for _ in range(20):
        desk.now += LIFETIME / 10
        assert desk.is_good(desk.ticket())
        assert not desk.is_good(ticket)


@pytest.mark.parametrize("step", [-86_400.0, -LIFETIME, -1.0, -0.001, 0.001, 1.0, LIFETIME, 86_400.0])
def test_a_time_of_day_that_is_set_makes_no_spent_ticket_good_and_no_fresh_one_bad(tmp_path: Path, step: float) -> None:
    desk = Desk(tmp_path)
    spent, fresh = desk.ticket(), desk.ticket()
    assert desk.is_good(spent)
    desk.ahead = step
    assert desk.is_good(fresh)
    for ahead in (step, 0.0, step, 0.0):
        desk.ahead = ahead
        for _ in range(4):
            assert desk.is_good(desk.ticket())
            assert not desk.is_good(spent)
            desk.now += LIFETIME / 3


def test_a_ticket_of_a_version_without_epochs_resumes_and_opens_nothing_new(tmp_path: Path) -> None:
    key = put(tmp_path / "tickets.key", secrets.token_bytes(KEY_BYTES))
    tickets = Tickets(key)
    desk = Desk(tmp_path, tickets=tickets)
    grant = desk.authenticator.authenticate(desk.token, "")
    body = msgspec.msgpack.encode([7, desk.now + LIFETIME, grant.name, None, None])
    signature = hmac.digest(key.read_bytes(), grant.origin + b"\0" + body, "sha256")
    ticket = urlsafe_b64encode(body + signature[:16]).rstrip(b"=").decode()
    assert not desk.is_good(ticket)
    assert desk.is_good(ticket, tickets.pass_for(grant, "/a"))


def test_of_more_spent_tickets_than_can_be_remembered_none_is_good_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.access.tickets.MAX_SPENT", 3)
    desk = Desk(tmp_path)
    spent: list[str] = []
    for _ in range(10):
        spent.append(desk.ticket())
        assert desk.is_good(spent[-1])
        assert not any(map(desk.is_good, spent))


def test_a_ticket_is_good_no_longer_than_its_token(tmp_path: Path) -> None:
    desk = Desk(tmp_path, LIFETIME / 2)
    first, second = desk.ticket(), desk.ticket()
    way_back = desk.authenticator.redeem_ticket(first, "/a", "", "").stream_pass
    assert desk.is_good(first, way_back)
    desk.now += LIFETIME / 2
    for ticket, again in ((first, way_back), (second, "")):
        with pytest.raises(Unauthorised, match="expired"):
            desk.authenticator.redeem_ticket(ticket, "/a", again, "")


def test_a_ticket_is_good_no_more_when_its_token_is_taken_out(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first, second = desk.ticket(), desk.ticket()
    way_back = desk.authenticator.redeem_ticket(first, "/a", "", "").stream_pass
    desk.path.write_bytes(b"")
    assert not desk.is_good(first, way_back)
    assert not desk.is_good(second)


def test_a_ticket_says_no_more_than_its_token(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    token = signed(claims(aud=None, subscribe=["a.*"], consume=["b"], publish=["c"], admin=["d"], view=["e"]))
    grant = desk.authenticator.authenticate(token, "")
    found = desk.authenticator.redeem_ticket(desk.authenticator.make_ticket(grant).ticket, "/a", "", "").grant
    assert (found.subscribe.names, found.consume.names, found.view.names) == (("a.*",), ("b",), ("e", "d"))
    assert (found.publish.names, found.admin.names) == ((), ())
    assert (found.name, found.expires) == (grant.name, grant.expires)


def test_a_ticket_that_is_changed_anywhere_is_not_good(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for ticket in (
        desk.ticket(),
        desk.authenticator.make_ticket(desk.authenticator.authenticate(signed(claims(aud=None)), "")).ticket,
    ):
        for place in range(len(ticket) - 1):  # the last letter has bits that say nothing
            letter = "A" if ticket[place] != "A" else "B"
            assert not desk.is_good(ticket[:place] + letter + ticket[place + 1 :])
        for wrong in ("", ticket[:-4], ticket + "AAAA", f" {ticket}", ticket.replace(ticket[5], "*", 1)):
            assert not desk.is_good(wrong)
        assert desk.is_good(ticket)


def test_a_ticket_of_a_server_without_authentication_is_refused_once_it_has_tokens(tmp_path: Path) -> None:
    tickets = Tickets(tmp_path / TICKET_KEY_FILE)
    desk = Desk(tmp_path, tickets=tickets)
    for grant in (ANONYMOUS, Grant("somebody"), Grant("somebody", stored=True)):
        assert not desk.is_good(tickets.make(grant, desk.now).ticket)


def test_the_key_of_tickets_is_its_owners_and_one_that_is_not_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state" / TICKET_KEY_FILE
    first = Tickets(path).make(ANONYMOUS, 0.0)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [found.name for found in path.parent.iterdir()] == [TICKET_KEY_FILE]
    assert first.ticket != Tickets(path).make(ANONYMOUS, 0.0).ticket
    path.chmod(0o644)
    desk = Desk(tmp_path, tickets=Tickets(path))
    assert desk.is_good(desk.ticket())
    assert "the key of tickets is not kept" in caplog.text
    path.chmod(0o600)
    strange = Desk(tmp_path / "state", tickets=Tickets(path))
    assert not strange.is_good(desk.ticket())


def test_subscribers_with_the_same_token_share_their_bytes(tmp_path: Path) -> None:
    desk, forms = Desk(tmp_path), Encoders(SSE_RAW, CHUNKED_RAW)
    first, second = (desk.authenticator.redeem_ticket(desk.ticket(), "/a", "", "").stream_pass for _ in range(2))
    elsewhere = desk.authenticator.redeem_ticket(desk.ticket(), "/b", "", "").stream_pass
    assert marked(forms, first) is marked(forms, second)
    assert marked(forms, first) is not marked(forms, elsewhere)


def test_a_ticket_takes_memory_only_once_it_is_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.access.tickets.MAX_SPENT", 3)
    desk = Desk(tmp_path)
    tickets = [desk.ticket() for _ in range(1_000)]  # were they counted, the first would open nothing any more
    assert desk.is_good(tickets[0])
