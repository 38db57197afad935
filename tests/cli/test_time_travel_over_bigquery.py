"""Forks, templates, rewinding and replay of a session in BigQuery, over the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ledger import CapabilityMissing, Change, SessionLedger
from support.bigquery_stores import Datasets, environment

if TYPE_CHECKING:
    from support.emulator import Emulator


@pytest.fixture(params=["lenient"])
def ledger(
    request: pytest.FixtureRequest, datasets: Datasets, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SessionLedger]:
    for name, value in environment(emulator).items():
        monkeypatch.setenv(name, value)
    with datasets.emptied("main") as place, SessionLedger.open(f"{place.url}?appends={request.param}") as opened:
        yield opened


@pytest.mark.emulator
def test_a_session_in_bigquery_is_forked_rewound_and_replayed(ledger: SessionLedger) -> None:
    sid = ledger.create_session("ada", "q", fields={"strategy": "s", "title": "T"})
    for name in ("b", "a"):
        ledger.add_message(sid, "user", name, message_id=name)
    ledger.append(sid, "message.removed", [Change("message", "b", removed=True), Change("title", value="U")])

    fork = ledger.fork_session(sid, at_version=3, event_id="k")
    forked = ledger.get_session(fork, messages=True)
    assert forked is not None
    assert ([it.content for it in forked.messages or ()], forked.title, forked.status) == (["b", "a"], "T", "active")
    assert forked.lineage == {"session_id": sid, "version": 3, "kind": "fork"}
    assert [it.event_type for it in ledger.history(fork)] == ["session.created", *["session.copied"] * 2]
    assert ledger.fork_session(sid, event_id="k") == fork
    assert (len(ledger.history(fork)), len(ledger.history(sid))) == (3, 5)
    assert {it.field for it in ledger.compare(sid, fork, version=3)} == {"lineage"}

    done = ledger.rewind(sid, 3, event_id="back")
    assert done is not None
    assert (done.version, ledger.rewind(sid, 3)) == (7, None)
    again = ledger.rewind(sid, 3, event_id="back")
    assert (again and again.version, again and again.replayed) == (7, True)
    session = ledger.get_session(sid, messages=True)
    assert session is not None
    assert ([it.content for it in session.messages or ()], session.title) == (["b", "a"], "T")
    assert list(session.children) == [fork]

    replayed = [(event.version, dict(state), state.messages) for event, state in ledger.replay(sid, messages=True)]
    at = [ledger.get_session(sid, version=version, messages=True) for version in range(1, 8)]
    assert replayed == [(it.version, dict(it), it.messages) for it in at if it is not None]

    made = ledger.get_session(ledger.create_from_template(sid, "bob", "again?"))
    assert made is not None
    assert (made.strategy, made.question, made.user_id) == ("s", "again?", "bob")
    with pytest.raises(CapabilityMissing, match="history"):
        ledger.subscribe()


@pytest.mark.emulator
@pytest.mark.parametrize("ledger", ["strict"], indirect=True)
def test_a_session_in_bigquery_is_found_under_its_key_by_every_ledger(ledger: SessionLedger) -> None:
    first = ledger.get_or_create_session("ada", "chat", question="q")
    ledger.create_session("ada")
    with SessionLedger.open(ledger.url) as other:
        assert other.get_or_create_session("ada", "chat").session_id == first.session_id
        assert other.get_or_create_session("ben", "chat").session_id != first.session_id
    ledger.expire_session(first.session_id)
    assert ledger.get_or_create_session("ada", "chat").session_id != first.session_id
