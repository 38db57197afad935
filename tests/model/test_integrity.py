"""The hash chain: whatever is changed afterwards is found, and erasing a value is no damage."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from datetime import timedelta

import pytest

from ledger import Change, CorruptEvent, RecordedEvent
from ledger.model.integrity import event_hash, value_hash, verify
from ledger.model.values import canonical
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import START, event, recorded
from ledger.testing.streams import chained


@pytest.fixture
def chain(tmp_path) -> list[RecordedEvent]:
    store = SqliteStore(tmp_path / "l.db", clock=lambda: START)
    store.append("s", event(1, Change("title", value="a"), Change("tag", "x", True), user_id="ada"))
    store.append("s", event(2, Change("title", value="b"), actor="bob", occurred_at=START))
    store.append(
        "s", event(3, Change("title", removed=True), Change("message", "m", {"role": "user", "content": "hi"}))
    )
    store.append("s", event(4, Change("summary", value="done")))
    events = list(store.events("s"))
    store.close()
    return events


def with_change(event: RecordedEvent, index: int, **parts: object) -> RecordedEvent:
    changes = list(event.changes)
    changes[index] = replace(changes[index], **parts)
    return replace(event, changes=tuple(changes))


def test_what_was_recorded_verifies(chain):
    assert verify(chain) == 4
    assert verify(chain[2:], chain[1].event_hash) == 2
    assert verify([]) == 0


@pytest.mark.parametrize(
    "part", [field.name for field in fields(RecordedEvent) if field.name not in ("changes", "store_id", "event_hash")]
)
def test_a_changed_envelope_is_found(chain, part):
    now = getattr(chain[1], part)
    other = {int: lambda: now + 1, str: lambda: now + "x", type(None): lambda: "x"}.get(
        type(now), lambda: now + timedelta(0, 1)
    )
    with pytest.raises(CorruptEvent) as found:
        verify([chain[0], replace(chain[1], **{part: other()}), *chain[2:]])
    assert (found.value.session_id, found.value.version) != ("", 0)


@pytest.mark.parametrize("where", [(0, 0), (0, 1), (1, 0), (2, 1), (3, 0)])
@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("field", "summary2"),
        ("key", "other"),
        ("text", '"other"'),
        ("text", None),
        ("removed", True),
        ("value_hash", "0" * 64),
        ("value_hash", None),
        ("value_salt", "0" * 32),
    ],
    ids=str,
)
def test_a_changed_change_is_found(chain, where, part, other):
    index, change = where
    chain[index] = with_change(chain[index], change, **{part: other})
    with pytest.raises(CorruptEvent, match=f"Session s, version {index + 1}"):
        verify(chain)


def test_a_removal_that_is_made_a_value_is_found(chain):
    salted = {"text": '"x"', "value_salt": "00", "value_hash": value_hash("00", '"x"')}
    chain[2] = with_change(chain[2], 0, removed=False, **salted)
    with pytest.raises(CorruptEvent):
        verify(chain)


def test_a_value_hidden_in_a_removal_is_found(chain):
    chain[2] = with_change(chain[2], 0, text='"smuggled"')
    with pytest.raises(CorruptEvent):
        verify(chain)


def test_a_value_forged_under_the_guise_of_an_erasure_is_found(chain):
    chain[1] = with_change(chain[1], 0, text='"forged"', value_salt=None)
    with pytest.raises(CorruptEvent, match="version 2"):
        verify(chain)


def test_a_value_with_a_hash_made_to_fit_is_found(chain):
    forged = value_hash(chain[1].changes[0].value_salt, '"forged"')
    chain[1] = with_change(chain[1], 0, text='"forged"', value_hash=forged)
    with pytest.raises(CorruptEvent, match="version 2"):
        verify(chain)


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 2, 1, 3), (0, 1, 3), (1, 2, 3), (0, 0, 1, 2, 3)], ids=str)
def test_an_event_out_of_place_is_found(chain, order):
    with pytest.raises(CorruptEvent):
        verify([chain[index] for index in order])


def test_a_change_that_was_taken_away_or_added_is_found(chain):
    for changes in (chain[0].changes[:1], (*chain[0].changes, chain[1].changes[0])):
        with pytest.raises(CorruptEvent, match="version 1"):
            verify([replace(chain[0], changes=changes)])


def test_the_order_of_changes_within_an_event_does_not_count(chain):
    assert verify([replace(chain[0], changes=chain[0].changes[::-1])]) == 1


def test_the_keys_of_one_field_are_hashed_in_their_order_whatever_that_of_the_changes():
    two = [("context", "b", False, "2"), ("context", "a", False, "1"), ("tag", "x", True, None)]
    envelope = ("s", 1, "e", "test.made", "ada", None, 1, 2, 3, 1)
    hashes = {event_hash(None, envelope, order) for order in itertools.permutations(two)}
    assert hashes == {"5265ffe2a11daca5b25b456dd5ed22b1d48c1dc97778f1325b3727dcb9325813"}


def test_recorded_hashes_are_those_of_the_first_release():
    """Files that exist carry these: another serialisation would find every one of them corrupt."""
    salted = value_hash("00ff", canonical({"b": [1, 2.5, None, True], "a": "é"}))
    assert salted == "a70e87b001f5efd1083c92b5ae842901cca8526e5a2de6576fac001bc8376c42"
    envelope = ("their:é", 2, "e2", "context.updated", "ada", "bob", 1772703000000001, 1772703000000002, 3, 1)
    assert (
        event_hash("ab" * 32, envelope, [("context", "k", False, salted)])
        == "9b3de16eb00f06c5beee371d4409d1733dfe8e222484e639c0a3976bbb53a6da"
    )


def test_the_idempotency_key_is_covered(chain):
    first = chained([replace(chain[0], idempotency_key="job-1")])
    assert verify(first) == 1
    for other in (None, "job-2"):
        with pytest.raises(CorruptEvent, match="version 1"):
            verify([replace(first[0], idempotency_key=other)])


def test_an_erased_value_leaves_the_chain_whole(chain):
    chain[1] = with_change(chain[1], 0, text=None, value_salt=None)
    assert chain[1].changes[0].erased
    assert chain[1].changes[0].value is None
    assert verify(chain) == 4


def test_equal_values_have_different_hashes(chain):
    assert value_hash("00", '"a"') != value_hash("01", '"a"')


def test_events_of_a_store_without_a_chain_are_passed_over():
    assert verify([recorded(1, 1, [Change("title", value="a")])]) == 0
