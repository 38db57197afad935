"""``verify`` finds each kind of tampering that a file can show by itself, and ``rebuild`` mends what is derived."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger import AsyncSessionLedger, Finding, SessionLedger, SessionNotFound, Verification
from ledger.model.integrity import chained, value_hash
from ledger.testing import START, CountedIds, SetClock
from support.tampering import TAMPERED

#: Sessions of the file. Three changes of each are current, two are superseded, one register is removed.
SESSIONS = ("s1", "s2", "s3")
#: What is computed again by --rebuild.
MENDED = sorted(
    name for name, (_, found) in TAMPERED.items() if {code for *_, code in found} <= {"head", "state", "search"}
)


def record(path: Path) -> None:
    """Record the sessions of the file, and let a search index them."""
    clock = SetClock(START)
    with SessionLedger.open(f"sqlite:///{path}", default_ttl_hours=None, clock=clock, ids=CountedIds()) as ledger:
        for session_id in SESSIONS:
            ledger.create_session("ada", "How many orders?", session_id=session_id)
            clock.move(1)
            ledger.update_summary(session_id, "ten")
            ledger.add_message(session_id, "user", "pay 100 to bob", message_id="m")
            ledger.update_summary(session_id, "eleven")
            ledger.add_tags(session_id, "weekly")
            ledger.remove_tags(session_id, "weekly")
        assert len(ledger.search("orders")) == len(SESSIONS)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "recorded.db"
    record(path)
    return path


@pytest.fixture
def file(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(recorded, tmp_path / "l.db"))


def tamper(file: Path, sql: str) -> None:
    """Change a file by hand, as an insider would."""
    names = "session_id, version, event_id, event_type, field, key, value, removed, user_id, actor, occurred_at, "
    rest = names + "recorded_at, created_at, schema_version, store_id, value_hash, value_salt, prev_hash, event_hash"
    rest += ", idempotency_key"
    with closing(sqlite3.connect(file)) as connection:
        connection.create_function("hashed", 2, value_hash)
        connection.executescript(sql.replace("{rest}", rest))


@pytest.fixture
def opened(file: Path) -> Iterator[Callable[[], SessionLedger]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(SessionLedger.open(f"sqlite:///{file}", create=False))


def found(result: Verification) -> set[tuple[str, int | None, str]]:
    return {(finding.session_id, finding.version, finding.code) for finding in result.findings}


def test_what_was_recorded_verifies(opened):
    result = opened().verify()
    assert (result.sessions, result.events, result.clean, result.findings) == (3, 18, True, ())


@pytest.mark.parametrize("name", TAMPERED)
def test_tampering_is_found(name, file, opened):
    sql, expected = TAMPERED[name]
    tamper(file, sql)
    result = opened().verify()
    assert found(result) == expected, result.findings
    assert not result.clean
    named = {session_id for session_id, *_ in expected} - {""}
    for session_id in named & {"s1", "s2"}:
        in_session = [each for each in result.findings if each.session_id == session_id and each.code != "relay"]
        assert list(opened().verify(session_id).findings) == in_session


@pytest.mark.parametrize("name", MENDED)
def test_what_is_derived_is_computed_again(name, file, opened):
    before = rows(file)
    tamper(file, TAMPERED[name].sql)
    ledger = opened()
    result = ledger.verify(rebuild=True)
    assert result.mended == result.findings
    assert result.clean
    assert (result.left, ledger.verify().findings) == ((), ())
    assert len(ledger.search("orders")) == len(ledger.search("eleven")) == len(ledger.search("bob")) == len(SESSIONS)
    assert ledger.verify().clean
    assert rows(file) == before
    assert ledger.get_session("s2").summary == "eleven"
    assert ledger.update_summary("s2", "twelve").version == 7
    assert ledger.verify().clean


@pytest.mark.parametrize("name", sorted(TAMPERED.keys() - set(MENDED)))
def test_events_are_never_changed_and_their_witnesses_stay(name, file, opened):
    tamper(file, TAMPERED[name].sql)
    before = rows(file)
    result = opened().verify(rebuild=True)
    assert result.left
    assert not result.clean
    assert rows(file)["session_events"] == before["session_events"]
    if not result.mended:
        assert rows(file) == before


def test_a_session_that_cannot_be_mended_is_left_as_it_was(file, opened):
    """The table of states turns versions into text, so the state is never what was recorded."""
    tamper(
        file,
        "ALTER TABLE session_state RENAME TO before; CREATE TABLE session_state (session_id, field, key, "
        "version TEXT, event_id, event_seq, value, PRIMARY KEY (session_id, field, key));"
        "INSERT INTO session_state SELECT session_id, field, key, version, event_id, event_seq, value FROM before;"
        "DROP TABLE before; UPDATE session_heads SET user_id = 'eve' WHERE session_id = 's1'",
    )
    before = rows(file)
    result = opened().verify("s1", rebuild=True)
    assert {(each.code, each.mendable) for each in result.left} == {("head", True), ("search", True), ("state", True)}
    assert rows(file) == before


def rows(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What the sessions are made of."""
    with closing(sqlite3.connect(file)) as connection:
        connection.text_factory = bytes
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall()
            for table in ("session_events", "session_heads", "session_state")
        }


def rechain(file: Path) -> None:
    """Change a value of s2 and compute its whole chain again, with everything derived from it."""
    with SessionLedger.open(f"sqlite:///{file}") as ledger:
        events = list(ledger.store.events("s2", upcast=False))
    forged, previous = [], None
    for event in events:
        salts = [change.value_salt for change in event.changes]
        texts = [replace(it, text=it.text and it.text.replace("eleven", "forged")) for it in event.changes]
        forged.append(chained(replace(event, changes=tuple(texts)), previous, salts))
        previous = forged[-1].event_hash
    with closing(sqlite3.connect(file)) as connection:
        for event in forged:
            for change in event.changes:
                connection.execute(
                    "UPDATE session_events SET value = ?, value_hash = ?, prev_hash = ?, event_hash = ? "
                    "WHERE session_id = 's2' AND version = ? AND field = ? AND key = ?",
                    (
                        *(change.text, change.value_hash, event.prev_hash, event.event_hash),
                        *(event.version, change.field, change.key),
                    ),
                )
        connection.execute("UPDATE session_heads SET event_hash = ? WHERE session_id = 's2'", (previous,))
        connection.execute(
            "UPDATE session_state SET value = '\"forged\"' WHERE session_id = 's2' AND field = 'summary'"
        )
        connection.execute("DELETE FROM search_slots WHERE session_id = 's2'")
        connection.execute("INSERT INTO search_again VALUES ('s2')")
        connection.commit()


def remove_last(file: Path) -> None:
    """Remove the last event of s2, with what it did to the head and the state."""
    tamper(
        file,
        "DELETE FROM session_events WHERE session_id = 's2' AND version = 6;"
        "UPDATE session_heads SET (version, event_hash) = (SELECT version, event_hash FROM session_events "
        "WHERE session_id = 's2' AND version = 5) WHERE session_id = 's2';"
        "INSERT INTO session_state SELECT session_id, field, key, version, event_id, seq, value FROM session_events "
        "WHERE session_id = 's2' AND version = 5",
    )


def remove_session(file: Path) -> None:
    """Remove s2."""
    for table in ("session_events", "session_heads", "session_state", "search_slots"):
        tamper(file, f"DELETE FROM {table} WHERE session_id = 's2'")


@pytest.mark.parametrize("forge", [rechain, remove_last, remove_session])
def test_what_only_a_witness_outside_the_file_can_tell_is_not_claimed(forge, file, opened):
    forge(file)
    result = opened().verify()
    assert result.clean
    assert result.events == {"rechain": 18, "remove_last": 17, "remove_session": 12}[forge.__name__]


def test_a_session_that_nobody_recorded_cannot_be_verified(opened):
    with pytest.raises(SessionNotFound):
        opened().verify("s1", "nowhere")


def test_findings_beyond_the_limit_are_counted(file, opened):
    tamper(file, TAMPERED["all hashes of a session NULL"].sql)
    result = opened().store.verify(limit=2)
    assert (len(result.findings), result.omitted, result.clean) == (2, 4, False)
    tamper(file, "UPDATE session_heads SET user_id = 'eve'")
    mended = opened().store.verify(["s1", "s3"], limit=1, rebuild=True)
    assert (len(mended.findings), mended.omitted, mended.clean) == (1, 0, True)
    assert opened().verify("s1", "s3").clean


def test_rows_are_counted_as_they_are_read(opened):
    steps: list[int] = []
    ledger = opened()
    ledger.verify(progress=steps.append)
    assert sum(steps) == ledger.store.last_seq()


def test_an_event_loop_can_verify(file):
    async def verified() -> Verification:
        async with AsyncSessionLedger(f"sqlite:///{file}") as ledger:
            return await ledger.verify()

    assert asyncio.run(verified()).clean


def test_a_finding_says_what_is_wrong(file, opened):
    tamper(file, TAMPERED["an actor"].sql)
    message = "the event is not what was recorded: its hash is another"
    assert opened().verify().findings == (Finding("s2", 2, "event", message, mendable=False),)
