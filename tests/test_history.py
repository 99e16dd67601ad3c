"""The structures that keep messages, against a plain list."""

import random

from app.history import Order, Ring
from app.message import Delivery, Message


def message(seq: int) -> Message:
    return Message("e", seq, seq, "a", b"", "", None, float(seq), Delivery.ALL)


def test_a_ring_and_an_order_do_what_a_list_does_whatever_is_given_up_in_whatever_order() -> None:
    dice = random.Random(5)
    ring, order, plain = Ring(), Order(), list[Message]()
    for seq in range(1, 6_000):
        for _ in range(dice.choice([0, 1, 1, 2])):
            if plain:
                gone = plain.pop(0 if dice.random() < 0.7 else dice.randrange(len(plain)))
                assert ring.remove(gone)
                assert not ring.remove(gone)
                order.remove(gone)
        added = message(seq * 3)
        plain.append(added)
        ring.append(added)
        order.append(added)
        place = dice.randrange(seq * 3)
        after = [kept for kept in plain if kept.seq > place]
        assert list(ring.after(place)) == list(order.after(place)) == after
        assert (list(ring), len(ring), ring.oldest) == (plain, len(plain), plain[0])
        assert list(ring.newest()) == list(order.newest()) == plain[::-1]
        assert order.get(added.seq) is added
        assert order.get(place) is next((kept for kept in plain if kept.seq == place), None)
        assert order.before(float(place), seq * 3) == (next((k.seq for k in plain if k.seq >= place), seq * 3 + 1) - 1)
