"""Messages: titles that come of them, and messages that are taken out."""

from __future__ import annotations

from typing import Any

import pytest

from ledger import IdempotencyConflict, InvalidInput, SessionLedger, SessionNotFound
from ledger.stores.base import EventStore
from ledger.testing import CountedIds, SetClock


@pytest.fixture
def ledger(tmp_path):
    with SessionLedger(f"sqlite:///{tmp_path / 'ledger.db'}", clock=SetClock(), ids=CountedIds(1)) as opened:
        yield opened


@pytest.fixture
def sid(ledger):
    return ledger.create_session("ada")


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("Find books by  Oxford\nplease", "Find books by Oxford"),
        ("\n \n second line", "second line"),
        ("x" * 200, "x" * 79 + "…"),
        ([{"type": "image"}, {"type": "text", "text": "look"}], "look"),
        ({"any": "json"}, None),
        ("   ", None),
    ],
)
def test_the_first_message_of_a_user_gives_the_session_a_title(ledger, sid, content, title):
    ledger.add_message(sid, "assistant", "How can I help?")
    ledger.add_message(sid, "user", content)
    assert ledger.get_session(sid).title == title


def test_a_title_is_replaced_by_hand_and_by_no_message(ledger, sid):
    ledger.add_message(sid, "user", "first")
    ledger.add_message(sid, "user", "second")
    assert ledger.get_session(sid).title == "first"
    ledger.update_session(sid, {"title": "Mine"})
    ledger.add_message(sid, "user", "third")
    assert ledger.get_session(sid).title == "Mine"
    named = ledger.create_session("ada", fields={"title": "Given"})
    ledger.add_message(named, "user", "hello")
    assert ledger.get_session(named).title == "Given"


def test_a_session_that_began_with_a_question_has_no_need_of_a_title(ledger):
    asked = ledger.create_session("ada", "How many orders?")
    ledger.add_message(asked, "user", "And last week?")
    assert ledger.get_session(asked).title is None


def test_another_ledger_on_the_file_leaves_the_title_alone(ledger, sid):
    ledger.add_message(sid, "user", "first")
    with SessionLedger(ledger.url, clock=SetClock(), ids=CountedIds(9)) as other:
        other.add_message(sid, "user", "second")
    assert ledger.get_session(sid).title == "first"


def test_a_first_message_that_is_sent_again_is_recorded_once(ledger, sid):
    first = ledger.add_message(sid, "user", "hello", event_id="m1")
    with SessionLedger(ledger.url, clock=SetClock(), ids=CountedIds(9)) as other:
        again = other.add_message(sid, "user", "hello", event_id="m1")
    assert (again.version, again.replayed) == (first.version, True)
    assert ledger.get_session(sid).version == 2


def test_a_message_that_is_taken_out_stays_in_the_history(ledger, sid):
    for number in range(3):
        ledger.add_message(sid, "user", f"{number}", message_id=f"m{number}")
    ledger.remove_message(sid, "m1", event_id="out")
    assert [it.message_id for it in ledger.get_messages(sid)] == ["m0", "m2"]
    assert ledger.get_session(sid, version=3, messages=True).messages[1].content == "1"
    assert ledger.remove_message(sid, "m1", event_id="out").replayed
    for unknown in ("m1", "never"):
        with pytest.raises(InvalidInput, match="no message"):
            ledger.remove_message(sid, unknown)
    with pytest.raises(SessionNotFound):
        ledger.remove_message("nobody", "m0")


def test_a_message_that_is_taken_out_takes_the_title_that_it_gave(ledger, sid):
    ledger.add_message(sid, "user", "my password is hunter2", message_id="m")
    ledger.remove_message(sid, "m", event_id="out")
    assert ledger.get_session(sid).title is None
    assert list(ledger.search("hunter2")) == []
    assert ledger.remove_message(sid, "m", event_id="out").replayed
    ledger.add_message(sid, "user", "How many orders?", message_id="q")
    assert ledger.get_session(sid).title == "How many orders?"


def test_the_next_message_of_a_user_gives_the_title_in_place_of_one_that_is_taken_out(ledger, sid):
    for number, (role, text) in enumerate([("user", "a"), ("assistant", "b"), ("user", "c"), ("user", "d")]):
        ledger.add_message(sid, role, text, message_id=f"m{number}")
    before = ledger.get_session(sid).version
    ledger.remove_message(sid, "m0", event_id="out")
    assert ledger.remove_message(sid, "m0", event_id="out").replayed
    assert (ledger.get_session(sid).title, ledger.get_session(sid).version) == ("c", before + 1)
    ledger.remove_message(sid, "m3")
    assert ledger.get_session(sid).title == "c"


class Reversed:
    """A store that returns the registers of a state in the reverse order, as a store may."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def state(self, *args: Any, **more: Any) -> Any:
        head, state = self._store.state(*args, **more)
        return head, dict(reversed(state.items()))


@pytest.mark.parametrize("wrap", [lambda store: store, Reversed], ids=["as it is", "reversed"])
def test_the_title_comes_from_the_first_message_in_the_order_of_reading_also_of_one_event(ledger, sid, wrap):
    ledger.add_message(sid, "user", "first", message_id="c")
    both = {key: {"role": "user", "content": key} for key in ("b", "a")}
    ledger.update_session(sid, {"message": both})
    assert [it.content for it in ledger.get_messages(sid)] == ["first", "a", "b"]
    ledger.store = wrap(ledger.store)
    ledger.remove_message(sid, "c")
    assert ledger.require_session(sid).title == "a"


def test_a_title_that_somebody_sets_during_a_removal_stays(ledger, sid, monkeypatch):
    ledger.add_message(sid, "user", "my password is hunter2", message_id="m")
    append = ledger.store.append

    def append_after_another(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(ledger.store, "append", append)
        ledger.update_session(sid, {"title": "Mine"})
        return append(*args, **more)

    monkeypatch.setattr(ledger.store, "append", append_after_another)
    ledger.remove_message(sid, "m")
    assert (ledger.require_session(sid).title, ledger.get_messages(sid)) == ("Mine", [])


def test_a_message_that_was_edited_and_is_taken_out_takes_the_title_of_its_former_text(ledger, sid):
    ledger.add_message(sid, "user", "my password is hunter2", message_id="m")
    ledger.add_message(sid, "user", "forget it", message_id="m")
    ledger.remove_message(sid, "m")
    assert ledger.get_session(sid).title is None


def test_a_title_of_other_origin_stays_when_a_message_is_taken_out(ledger, sid):
    ledger.add_message(sid, "user", "hello", message_id="m0")
    ledger.add_message(sid, "user", "hello", message_id="m1")
    ledger.remove_message(sid, "m1")  # the first gives the same
    assert ledger.get_session(sid).title == "hello"
    ledger.update_session(sid, {"title": "Mine"})
    ledger.remove_message(sid, "m0")
    assert ledger.get_session(sid).title == "Mine"


def test_a_fork_gives_up_the_title_too_with_the_message_that_gave_it(ledger, sid):
    ledger.add_message(sid, "user", "my password is hunter2", message_id="m")
    fork = ledger.fork_session(sid)
    ledger.remove_message(fork, "m")
    assert (ledger.get_session(fork).title, ledger.get_session(sid).title) == (None, "my password is hunter2")


def test_a_title_that_was_taken_back_is_given_again_and_each_message_is_recorded_once(ledger, sid):
    ledger.add_message(sid, "user", "first")
    ledger.rewind(sid, 1)
    sent = ledger.add_message(sid, "user", "second")
    assert ledger.get_session(sid).title == "second"
    assert ledger.add_message(sid, "user", "second", event_id=sent.event_id).replayed
    ledger.update_session(sid, {"title": None})
    assert ledger.add_message(sid, "user", "second", event_id=sent.event_id).replayed


def test_a_message_without_its_title_is_recorded_once_too(tmp_path, ledger, sid):
    ledger.add_message(sid, "user", "first")
    with SessionLedger(f"sqlite:///{tmp_path / 'ledger.db'}", clock=SetClock()) as other:
        other.update_session(sid, {"title": None})
    sent = ledger.add_message(sid, "user", "second")
    assert ledger.add_message(sid, "user", "second", event_id=sent.event_id).replayed


def test_a_key_that_took_one_message_out_takes_out_no_other(ledger, sid):
    for message_id in ("m1", "m2"):
        ledger.add_message(sid, "assistant", "hi", message_id=message_id)
    ledger.remove_message(sid, "m1", event_id="k")
    assert ledger.remove_message(sid, "m1", event_id="k").replayed
    with pytest.raises(IdempotencyConflict):
        ledger.remove_message(sid, "m2", event_id="k")
    assert [message.message_id for message in ledger.get_messages(sid)] == ["m2"]


def test_an_id_that_is_no_text_is_refused(ledger):
    with pytest.raises(InvalidInput, match="session_id"):
        ledger.add_message(["x"], "user", "hi")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("tools_used", "sql"),
        ("processing_time_ms", "12"),
        ("processing_time_ms", -1.0),
        ("token_count", "3"),
        ("token_count", 3.5),
        ("token_count", True),
        ("token_count", -1),
        ("metadata", "abc"),
        ("metadata", [1]),
    ],
)
def test_a_part_of_a_message_that_sums_would_misread_is_refused(ledger, sid, part, value):
    with pytest.raises(InvalidInput, match=f"^{part} must be .*nothing was written"):
        ledger.add_message(sid, "assistant", "x", **{part: value})
    assert ledger.get_messages(sid) == []


@pytest.mark.parametrize("name", ["last", "limit"])
@pytest.mark.parametrize("number", [0, 10_001])
def test_a_number_of_messages_that_cannot_be_is_refused_by_the_name_that_was_given(ledger, sid, name, number):
    with pytest.raises(InvalidInput, match=f"^{name} must be"):
        ledger.get_messages(sid, **{name: number})
