"""A relay over a store, in short."""

from __future__ import annotations

from ledger import Change
from ledger.relay.loop import Relay
from ledger.testing import event
from support.relays import StreamsSink

URL = StreamsSink.url


class Killed(BaseException):
    """A process dies: nobody catches it."""


def append(store, *numbers, session="s", changes=1):
    for number in numbers:
        made = [Change("context", f"{number}.{index}", number) for index in range(changes)]
        store.append(session, event(number, *made, user_id="ada"))


def relay(store, sink, holder="here/x/1", **more):
    return Relay(store.outbox(URL), sink, holder=holder, **more)


def rows_of(store):
    return list(store.rows_after(0, 10_000))
