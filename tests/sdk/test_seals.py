"""Seals: what only a witness can find is found against one, and honest work of any kind is not."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from ledger import (
    AsyncSessionLedger,
    CapabilityMissing,
    ConfigurationError,
    InvalidInput,
    PermissionDenied,
    SessionLedger,
    SessionNotFound,
    StoreUnavailable,
    Verification,
    WitnessFailed,
)
from ledger.model.integrity import chained
from ledger.model.seals import Seal, leaves_of, seal_of
from ledger.outbox import columns
from ledger.testing import CountedIds, SetClock

TABLES = ("session_events", "session_heads", "session_state", "search_slots")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "l.db"


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    return tmp_path / "l.seal"


@pytest.fixture
def warehouse(tmp_path: Path) -> str:
    return f"duckdb:///{tmp_path}/w.duckdb"


@pytest.fixture
def tiered(path: Path, warehouse: str, clock: SetClock) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{path}", warehouse=warehouse, clock=clock, ids=CountedIds(100_000)) as opened:
        yield opened


def sessions(ledger: SessionLedger, number: int = 3) -> list[str]:
    """Sessions of three events each; ids that say nothing of the time are sorted as they are made."""
    ids = [ledger.create_session("ada", f"q{n}", session_id=f"s{n}", ttl=None) for n in range(number)]
    for session_id in ids:
        ledger.add_message(session_id, "user", "hi", message_id="m")
        ledger.update_summary(session_id, "fine")
    return ids


def recompute(ledger: SessionLedger, path: Path, session_id: str, text: str) -> None:
    """Rewrite a session's first question, and every hash after it, as one who knows the format would."""
    events = list(ledger.store.events(session_id, upcast=False))
    first = events[0]
    changes = tuple(replace(change, text=text) if change.field == "question" else change for change in first.changes)
    events[0] = replace(first, changes=changes)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        previous = None
        for event in events:
            event = chained(event, previous, [change.value_salt for change in event.changes])
            previous = event.event_hash
            for field, key, value, _, value_hash, _ in columns.change_values(event):
                connection.execute(
                    "UPDATE session_events SET value = ?, value_hash = ?, prev_hash = ?, event_hash = ? "
                    "WHERE session_id = ? AND version = ? AND field = ? AND key = ?",
                    (value, value_hash, event.prev_hash, event.event_hash, session_id, event.version, field, key),
                )
        connection.execute("UPDATE session_heads SET event_hash = ? WHERE session_id = ?", (previous, session_id))
        connection.execute(
            "UPDATE session_state SET value = ? WHERE session_id = ? AND field = 'question'", (text, session_id)
        )


def remove_last(path: Path, session_id: str) -> None:
    """Remove a session's last event, which set the summary, with head and state."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM session_events WHERE session_id = ? AND version = 3", (session_id,))
        connection.execute(
            "UPDATE session_heads SET (version, updated_at, event_hash) = (SELECT version, recorded_at, event_hash "
            "FROM session_events WHERE session_id = ?1 AND version = 2) WHERE session_id = ?1",
            (session_id,),
        )
        for table in ("session_state", "search_slots"):
            connection.execute(f"DELETE FROM {table} WHERE session_id = ? AND field = 'summary'", (session_id,))


def remove_rows_of_last(path: Path, session_id: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM session_events WHERE session_id = ? AND version = 3", (session_id,))


def remove(path: Path, session_id: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for table in TABLES:
            connection.execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,))


def found(result: Verification) -> list[tuple[str, str]]:
    """What a comparison with a seal found, apart from what the ledger shows by itself."""
    return [(each.session_id, each.code) for each in result.findings if each.code.startswith("seal")]


@pytest.mark.parametrize(
    ("tamper", "code", "shows"),
    [
        (lambda ledger, path: recompute(ledger, path, "s1", '"forged"'), "sealed_rewritten", False),
        (lambda ledger, path: remove_last(path, "s1"), "sealed_shortened", False),
        (lambda ledger, path: remove_rows_of_last(path, "s1"), "sealed_shortened", True),
        (lambda ledger, path: remove(path, "s1"), "sealed_missing", False),
    ],
    ids=["recomputed", "tail", "tail-without-head", "session"],
)
@pytest.mark.parametrize("against", ["file", "latest", "root", "seal"])
def test_what_the_ledger_cannot_show_by_itself_is_found_against_a_seal(
    ledger: SessionLedger, path: Path, witness: Path, tamper: Callable[..., None], code: str, shows: bool, against: str
) -> None:
    sessions(ledger)
    seal = ledger.seal(output=witness)
    named = {"file": witness, "latest": "latest", "root": seal.root, "seal": seal}[against]
    assert ledger.verify(against=named).clean
    tamper(ledger, path)
    assert shows or ledger.verify().clean
    result = ledger.verify(against=named)
    assert found(result) == [("s1", code)]
    assert not result.clean
    assert result.against is not None
    assert (result.against.sessions, result.against.seal) == (3, seal)


def test_honest_work_of_every_kind_is_no_finding(
    tiered: SessionLedger, clock: SetClock, witness: Path, warehouse: str
) -> None:
    ids = sessions(tiered, 8)
    early = tiered.archive_session("s7")
    assert early is not None
    tiered.warehouse.sync()
    assert tiered.drop_archived() == 1
    tiered.seal(output=witness)
    tiered.update_summary("s0", "later")
    tiered.fork_session("s1", at_version=2)
    tiered.rewind("s1", 2)
    tiered.create_session("bob", "new")
    for session_id in ("s2", "s3"):
        tiered.archive_session(session_id)
    tiered.delete_session("s4")
    tiered.delete_session("s5")
    tiered.warehouse.sync()
    assert tiered.drop_archived() == 2
    tiered.hydrate_session("s3")
    tiered.hydrate_session("s7")
    tiered.restore_session("s5")
    clock.move(40 * 86_400)
    tiered.add_message("s6", "user", "recent")
    tiered.warehouse.sync()
    assert tiered.delete_old_sessions(timedelta(days=30), ["deleted"]) == 1
    tiered.create_session("ada", "another", session_id="s4")
    for against in (witness, "latest", "warehouse:latest"):
        result = tiered.verify(against=against)
        assert result.clean, result.findings
        assert result.against is not None
        assert (result.against.sessions, result.against.purged, result.against.elsewhere) == (len(ids), ("s4",), 0)


def test_of_an_archived_session_the_warehouse_is_compared(
    tiered: SessionLedger, path: Path, clock: SetClock, warehouse: str, witness: Path
) -> None:
    import duckdb

    sessions(tiered)
    tiered.seal(output=witness)
    for session_id in ("s0", "s1", "s2"):
        tiered.archive_session(session_id)
    tiered.warehouse.sync()
    assert tiered.drop_archived() == 3
    with SessionLedger.open(f"sqlite:///{path}") as alone:
        result = alone.verify(against=witness)
        assert result.clean
        assert result.against is not None
        assert result.against.elsewhere == 3
    assert tiered.verify(against=witness).clean
    with duckdb.connect(warehouse.removeprefix("duckdb:///")) as connection:
        connection.execute("UPDATE session_events SET event_hash = 'forged' WHERE session_id = 's0' AND version = 3")
        connection.execute("DELETE FROM session_events WHERE session_id = 's1' AND version >= 3")
        connection.execute("DELETE FROM session_events WHERE session_id = 's2'")
    assert found(tiered.verify(against=witness)) == [
        *(("s0", "sealed_rewritten"), ("s1", "sealed_shortened"), ("s2", "sealed_shortened")),
    ]


def test_only_the_named_sessions_are_compared(ledger: SessionLedger, path: Path) -> None:
    sessions(ledger)
    ledger.seal()
    remove_last(path, "s1")
    assert ledger.verify("s0", against="latest").clean
    assert found(ledger.verify("s1", "s2", against="latest")) == [("s1", "sealed_shortened")]
    remove(path, "s1")
    assert found(ledger.verify("s1", against="latest")) == [("s1", "sealed_missing")]
    result = ledger.verify("s0", "s1", against="latest")
    assert (result.sessions, found(result)) == (1, [("s1", "sealed_missing")])
    with pytest.raises(SessionNotFound):
        ledger.verify("nowhere", against="latest")


# Whoever can write the file can change its seals


def test_leaves_that_were_changed_do_not_have_the_root(ledger: SessionLedger, path: Path, witness: Path) -> None:
    sessions(ledger)
    seal = ledger.seal(output=witness)
    recompute(ledger, path, "s1", '"forged"')
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE sealed_heads SET event_hash = (SELECT event_hash FROM session_heads WHERE session_id = 's1') "
            "WHERE session_id = 's1'"
        )
    for against in ("latest", seal.root):
        assert found(ledger.verify(against=against)) == [("", "seal_changed")]
    assert found(ledger.verify(against=witness)) == [("s1", "sealed_rewritten")]


def test_a_seal_that_was_made_again_is_found_by_any_copy_elsewhere(
    tiered: SessionLedger, path: Path, witness: Path
) -> None:
    sessions(tiered)
    seal = tiered.seal(output=witness)
    recompute(tiered, path, "s1", '"forged"')
    forged = tiered.store.seal()  # type: ignore[attr-defined]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM seals WHERE seal_id = ?", (seal.seal_id,))
        connection.execute(
            "UPDATE seals SET seal_id = ?, previous_root = NULL WHERE seal_id = ?", (seal.seal_id, forged.seal_id)
        )
    assert tiered.verify(against="latest").clean, "the ledger alone shows nothing"
    for against in (seal.root, seal, "warehouse:latest", f"warehouse:{seal.seal_id}"):
        assert found(tiered.verify(against=against)) == [("", "seal_missing")]
    assert found(tiered.verify(against=witness)) == [("", "seal_missing"), ("s1", "sealed_rewritten")]


def test_a_seal_that_was_removed_leaves_a_gap(ledger: SessionLedger, path: Path) -> None:
    sessions(ledger, 1)
    first, _ = ledger.seal(), ledger.update_summary("s0", "other")
    second = ledger.seal()
    assert (first.previous_root, second.previous_root) == (None, first.root)
    assert ledger.seals() == [first, second]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM seals WHERE seal_id = ?", (first.seal_id,))
    assert found(ledger.verify(against="latest")) == [("", "seal_missing")]


def test_a_seal_that_was_not_finished_does_not_count(ledger: SessionLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions(ledger)
    with monkeypatch.context() as patched:
        patched.setattr("ledger.stores.sqlite.seals.MerkleTree.root", lambda tree: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ledger.seal()
    assert ledger.seals() == []
    ledger.update_summary("s0", "later")
    seal = ledger.seal()
    assert (ledger.seals(), seal.previous_root) == ([seal], None)
    assert ledger.verify(against="latest").clean


# Witnesses


def test_a_file_has_the_seal_and_never_replaces_an_earlier_one(
    ledger: SessionLedger, witness: Path, tmp_path: Path
) -> None:
    sessions(ledger)
    seal = ledger.seal(output=str(witness))
    with pytest.raises(InvalidInput, match="exists already and may hold an earlier seal"):
        ledger.seal(output=witness)
    first, *rest = witness.read_bytes().splitlines(keepends=True)
    assert seal_of(first, "f") == seal
    assert [leaf.session_id for leaf in leaves_of(rest, "f")] == ["s0", "s1", "s2"]
    assert [each.name for each in tmp_path.iterdir() if "seal" in each.name] == ["l.seal"]
    with pytest.raises(InvalidInput, match="a file of the ledger itself"):
        ledger.seal(output=tmp_path / "l.db-wal")
    with pytest.raises(WitnessFailed, match=r"is recorded in the ledger, but .*could not be written") as raised:
        ledger.seal(output=tmp_path / "nowhere" / "l.seal")
    assert ledger.seals() == [seal, raised.value.seal]


def test_named_sessions_that_were_purged_are_no_error_however_many_there_are(
    tiered: SessionLedger, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.sdk.against.MAX_FINDINGS", 1)
    ids = sessions(tiered)
    tiered.seal()
    for session_id in ids[:2]:
        tiered.delete_session(session_id)
    tiered.warehouse.sync()
    clock.move(3600)
    assert tiered.delete_old_sessions(timedelta(0)) == 2
    result = tiered.verify(*ids, against="latest")
    assert result.clean
    assert result.against is not None
    assert (result.sessions, result.against.purged_count) == (1, 2)


def test_a_command_gets_the_seal(ledger: SessionLedger, tmp_path: Path) -> None:
    sessions(ledger)
    program = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"
    taken = tmp_path / "$(taken); it"
    seal = ledger.seal(command=[sys.executable, "-c", program, str(taken)])
    assert orjson.loads(taken.read_bytes()) == seal.as_json()
    assert ledger.seal(command=f'{sys.executable} -c "pass"') == ledger.seals()[-1]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ([sys.executable, "-c", "raise SystemExit('no paper')"], "failed: exit code 1: no paper"),
        (["/nowhere/witness"], "there is no /nowhere/witness"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], r"did not end within 0\.5 seconds"),
    ],
)
def test_a_command_that_fails_leaves_the_seal(
    ledger: SessionLedger, command: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in command[-1]:
        monkeypatch.setattr("ledger.sdk.witnesses.COMMAND_SECONDS", 0.5)
    with pytest.raises(WitnessFailed, match=says) as raised:
        ledger.seal(command=command)
    assert ledger.seals() == [raised.value.seal]


@pytest.mark.parametrize("command", ["", [], "'open", [1], ["a\0b"], 7])
def test_a_command_that_cannot_be_read_makes_no_seal(ledger: SessionLedger, command: object) -> None:
    with pytest.raises(InvalidInput, match="no seal was made"):
        ledger.seal(command=command)  # type: ignore[arg-type]
    assert ledger.seals() == []


def test_a_warehouse_that_was_away_gets_the_earlier_seals_too(
    tiered: SessionLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise StoreUnavailable("The network is down.")

    with monkeypatch.context() as patched:
        patched.setattr("ledger.warehouse.duckdb.warehouse.DuckDBWarehouse.change", unreachable)
        with pytest.raises(WitnessFailed, match="did not take it: The network is down"):
            tiered.seal()
    tiered.seal()
    rows = tiered.warehouse.query("SELECT seal_id, root FROM seals ORDER BY made_at, seal_id").rows
    assert rows == [(seal.seal_id, seal.root) for seal in tiered.seals()]
    assert len(rows) == 2


# Which seal


def test_what_is_no_seal_of_this_ledger_is_refused(ledger: SessionLedger, tmp_path: Path, witness: Path) -> None:
    for against in ("latest", "nothing", tmp_path / "nothing"):
        with pytest.raises(InvalidInput, match=r"ledger seals?`"):
            ledger.verify(against=against)
    with pytest.raises(ConfigurationError, match="No warehouse is attached"):
        ledger.verify(against="warehouse:latest")
    with pytest.raises(InvalidInput, match="named by text"):
        ledger.verify(against=b"latest")  # type: ignore[arg-type]
    sessions(ledger)
    seal = ledger.seal(output=witness)
    assert found(ledger.verify(against="0" * 64)) == [("", "seal_missing")]
    with SessionLedger.open(f"sqlite:///{tmp_path}/other.db") as other, pytest.raises(InvalidInput, match="the ledger"):
        other.verify(against=witness)
    cut = witness.read_bytes()
    witness.write_bytes(cut[:-1])
    ledger.verify(against=witness)
    witness.write_bytes(cut.replace(b'"s1"', b'"s9"'))
    with pytest.raises(InvalidInput, match="changed or cut off"):
        ledger.verify(against=witness)
    witness.write_bytes(b"not a seal")
    with pytest.raises(InvalidInput, match="is not a seal of a ledger"):
        ledger.verify(against=witness)
    assert ledger.verify(against=seal.seal_id).clean


def test_a_copy_of_the_ledger_is_compared_with_the_same_seal(
    ledger: SessionLedger, tmp_path: Path, witness: Path
) -> None:
    sessions(ledger)
    ledger.store.backup(tmp_path / "before.db")
    ledger.update_summary("s2", "after")
    ledger.seal(output=witness)
    shutil.copy(witness, tmp_path / "kept.seal")
    with SessionLedger.open(f"sqlite:///{tmp_path}/before.db") as restored:
        result = restored.verify(against=tmp_path / "kept.seal")
    assert found(result) == [("", "seal_missing"), ("s2", "sealed_shortened")]


def test_seals_are_not_for_one_users_view(ledger: SessionLedger) -> None:
    view = ledger.for_user("ada")
    for call in (view.seal, view.seals, lambda: view.verify(against="latest")):
        with pytest.raises(PermissionDenied):
            call()  # type: ignore[operator]


def test_the_async_ledger_seals_too(path: Path) -> None:
    async def run() -> tuple[Seal, list[Seal], Verification]:
        async with AsyncSessionLedger(f"sqlite:///{path}") as ledger:
            await ledger.create_session("ada", "q")
            return await ledger.seal(), await ledger.seals(), await ledger.verify(against="latest")

    seal, listed, result = asyncio.run(run())
    assert listed == [seal]
    assert result.clean


def test_a_ledger_without_seals_says_so(ledger: SessionLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    capabilities = replace(ledger.store.capabilities, seals=False)
    monkeypatch.setattr(type(ledger.store), "capabilities", capabilities)
    with pytest.raises(CapabilityMissing, match="seal that file"):
        ledger.seal()


def test_seals_that_are_made_beside_writers_and_one_another_all_hold(path: Path) -> None:
    with SessionLedger.open(f"sqlite:///{path}?synchronous=NORMAL") as ledger:
        ids = sessions(ledger)

        def append(number: int) -> None:
            for turn in range(20):
                ledger.update_summary(ids[number], f"turn {turn}")
                ledger.create_session("bob", "more")

        def seal(_: int) -> None:
            for _ in range(5):
                ledger.seal()

        with ThreadPoolExecutor(4) as threads:
            done = [threads.submit(call, number) for number in range(2) for call in (append, seal)]
            for each in done:
                each.result()
        seals = ledger.seals()
        assert len(seals) == 10
        for each in seals:
            result = ledger.verify(against=each)
            assert result.clean, result.findings
            assert result.against is not None
            assert result.against.sessions == each.sessions
