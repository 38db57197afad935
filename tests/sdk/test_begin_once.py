"""Sessions that any number of callers begin once, and what many change at once."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from enum import Enum

import pytest

from ledger import IdempotencyConflict, SessionNotFound, WrongExpectedVersion
from ledger.model.ids import event_id_for, session_id_for, session_id_of_key

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_get_or_create_session_gives_fifty_threads_one_session(ledger):
    start, found = threading.Barrier(50), []

    def want():
        start.wait()
        found.append(ledger.get_or_create_session("ada", "chat 7", question="hi").session_id)

    threads = [threading.Thread(target=want) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 50
    assert len(set(found)) == 1
    assert len(ledger.list_sessions()) == 1


@pytest.mark.parametrize("lifetimes", [{"default_ttl_hours": 24}])
def test_get_or_create_session_a_key_is_its_users_own_and_stands_for_a_new_session_after_the_end(ledger, clock):
    first = ledger.get_or_create_session("ada", "chat")
    assert ledger.get_or_create_session("ada", "chat").session_id == first.session_id
    assert ledger.get_or_create_session("ben", "chat").session_id != first.session_id
    assert ledger.get_or_create_session("ada", "other").session_id != first.session_id
    clock.now += DAY
    second = ledger.get_or_create_session("ada", "chat")
    assert second.session_id != first.session_id
    assert second.status == "active"
    ledger.complete_session(second.session_id)
    assert ledger.get_or_create_session("ada", "chat").session_id == second.session_id


def test_get_or_create_session_waits_for_no_writer_where_the_key_was_asked_for_before(ledger):
    first = ledger.get_or_create_session("ada", "chat")
    with closing(sqlite3.connect(ledger.store.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert ledger.get_or_create_session("ada", "chat").session_id == first.session_id


def test_an_id_that_somebody_else_has_guessed_is_nobodys_way_into_a_session(ledger):
    eve, ada = ledger.for_user("eve"), ledger.for_user("ada")
    for number in range(2):
        eve.create_session(session_id=session_id_of_key("chat", "ada", number))
    session = ledger.get_or_create_session("ada", "chat")
    assert session.user_id == "ada"
    assert eve.get_session(session.session_id) is None
    assert ada.get_or_create_session(key="chat").session_id == session.session_id


def test_a_session_of_somebody_else_is_not_taken_for_one_that_was_begun_before(ledger):
    key = event_id_for("order 17", "ada")
    ledger.for_user("eve").create_session(session_id=session_id_for("order 17", "ada"), question="q", event_id=key)
    with pytest.raises(IdempotencyConflict):
        ledger.create_session("ada", "q", event_id="order 17")
    with pytest.raises(SessionNotFound):
        ledger.for_user("ada").create_session(question="q", event_id="order 17")


@pytest.mark.parametrize(
    "given",
    [
        {"fields": {"expires_at": "2020-01-01T00:00:00Z"}},
        {"fields": {"status": "archived"}},
        {"ttl": timedelta(microseconds=1)},
    ],
)
def test_a_session_that_begins_closed_is_begun_once_at_each_call(ledger, given):
    for number in range(1, 4):
        ledger.get_or_create_session("ada", "chat", **given)
        assert len(ledger.list_sessions()) <= number


def test_a_session_begins_once_whatever_version_is_expected(ledger):
    session_id = ledger.create_session("ada", "q")
    for expected in (-1, 1):
        with pytest.raises(WrongExpectedVersion):
            ledger.create_session("ada", "again", session_id=session_id, expected_version=expected)
    assert ledger.get_session(session_id).question == "q"


def test_a_key_is_the_same_whatever_kind_of_text_it_is(ledger):
    class Key(str, Enum):  # noqa: UP042 - whose text in a text is not its value
        CHAT = "chat"

    first = ledger.get_or_create_session("ada", Key.CHAT)
    assert ledger.get_or_create_session("ada", "chat").session_id == first.session_id
    sent = ledger.add_message(first.session_id, "user", "hi", event_id=Key.CHAT)
    assert ledger.add_message(first.session_id, "user", "hi", event_id="chat").event_id == sent.event_id


def test_any_number_of_threads_change_one_session(ledger):
    session_id = ledger.create_session("ada")
    failed = []

    def work(number):
        try:
            ledger.update_session(session_id, {"context": {f"k{number}": number}})
        except Exception as error:  # noqa: BLE001 - shown below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(120)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(ledger.get_session(session_id).context) == 120
