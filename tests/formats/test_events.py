"""Export and import: every byte comes back, and a line that cannot be taken is named and leaves nothing behind."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import (
    Change,
    CorruptEvent,
    InvalidInput,
    RecordedChange,
    RecordedEvent,
    SessionLedger,
    ValueTooLarge,
    WrongExpectedVersion,
)
from ledger.errors import IdempotencyConflict, LedgerError
from ledger.formats.events import decode, encode, export_lines, import_lines
from ledger.model.fold import fold
from ledger.model.integrity import chained as chained_event
from ledger.model.integrity import verify
from ledger.testing import CountedIds, SetClock, event, recorded
from ledger.testing.streams import key_of
from support.shell import Shell
from support.streams import histories, json_values, texts

fields = st.one_of(
    st.tuples(st.sampled_from(["question", "summary"]), st.just(""), texts),
    st.tuples(st.sampled_from(["strategy", "x_free"]), st.just(""), json_values),
    st.tuples(
        st.sampled_from(["context", "result", "attribute", "x_free"]), st.sampled_from(["a", "é 漢"]), json_values
    ),
    st.tuples(
        st.just("message"), st.sampled_from(["m1", "m2"]), texts.map(lambda text: {"role": "user", "content": text})
    ),
)
events = st.lists(
    st.lists(st.tuples(fields, st.booleans()), min_size=1, max_size=4, unique_by=lambda it: it[0][:2]),
    min_size=1,
    max_size=6,
)


def open_ledger(folder: Path, name: str) -> SessionLedger:
    return SessionLedger.open(f"sqlite:///{folder / name}.db", clock=SetClock(), ids=CountedIds())


def erase(folder: Path, name: str, where: str) -> None:
    """Take values and salts away, as erasure does."""
    with sqlite3.connect(folder / f"{name}.db") as connection:
        connection.execute(f"UPDATE session_events SET value = NULL, value_salt = NULL WHERE removed = 0 AND {where}")
    connection.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(events, min_size=1, max_size=3), st.booleans())
def test_an_export_imported_into_an_empty_ledger_exports_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, sessions: list[Any], erased: bool
) -> None:
    folder = tmp_path_factory.mktemp("round")
    with open_ledger(folder, "here") as here:
        for number, of_session in enumerate(sessions):
            for index, changes in enumerate(of_session):
                made = [
                    Change(field, key, None if removed else value, removed) for (field, key, value), removed in changes
                ]
                more = {"actor": "bot" if index else None, "idempotency_key": key_of(index)}
                here.store.append(f"s{number}", event(index, *made, user_id=f"ü{number}", **more))
        if erased:
            erase(folder, "here", "version % 2 = 0")
        lines = list(export_lines(here.store))
        before = [here.store.events(f"s{number}")[:] for number in range(len(sessions))]
    with open_ledger(folder, "there") as there:
        done = import_lines(there.store, lines)
        assert (done.sessions, done.events, done.new) == (len(sessions), len(lines), len(lines))
        assert list(export_lines(there.store)) == lines
        for number, of_session in enumerate(before):
            assert there.store.events(f"s{number}")[:] == of_session
            assert verify(of_session) == len(of_session)
            found = there.store.state(f"s{number}", with_messages=True)
            assert found is not None
            assert found[1] == fold(of_session)
        assert import_lines(there.store, lines).new == 0


@settings(max_examples=60, deadline=None)
@given(histories())
def test_a_line_is_the_event_and_nothing_else(of_session: list[RecordedEvent]) -> None:
    for each in of_session:
        assert decode(encode(each)) == each
        assert encode(decode(encode(each))) == encode(each)
        assert encode(each).count(b"\n") == 1


@pytest.fixture
def lines(tmp_path: Path) -> list[bytes]:
    """An export of two sessions of three events each; the newer session comes first."""
    clock = SetClock()
    with SessionLedger.open(f"sqlite:///{tmp_path / 'source.db'}", clock=clock, ids=CountedIds()) as source:
        for name in ("older", "newer"):
            session_id = source.create_session("ada", name, session_id=name)
            source.update_summary(session_id, "one")
            source.update_summary(session_id, "two", event_id="job-42")
            clock.move(60)
        return list(export_lines(source.store))


def changed(line: bytes, **parts: Any) -> bytes:
    """The line with some parts replaced; a part that is ... is taken out."""
    found = json.loads(line) | parts
    return json.dumps({name: value for name, value in found.items() if value is not ...}).encode()


def with_change(line: bytes, **parts: Any) -> bytes:
    found = json.loads(line)
    first = found["changes"][0] | parts
    found["changes"][0] = {name: value for name, value in first.items() if value is not ...}
    return json.dumps(found).encode()


BAD: dict[str, tuple[Callable[[bytes], bytes], type[LedgerError]]] = {
    "no JSON": (lambda line: b"{", InvalidInput),
    "not UTF-8": (lambda line: b'"\xff"', InvalidInput),
    "no object": (lambda line: b"[]", InvalidInput),
    "a part missing": (lambda line: changed(line, store_id=...), InvalidInput),
    "an unknown part": (lambda line: changed(line, colour="red"), InvalidInput),
    "a version that is text": (lambda line: changed(line, version="2"), InvalidInput),
    "version 0": (lambda line: changed(line, version=0), InvalidInput),
    "a version no store can hold": (lambda line: changed(line, version=2**63), InvalidInput),
    "a time without a zone": (lambda line: changed(line, recorded_at="2026-03-05T09:30:00"), InvalidInput),
    "a time that is a number": (lambda line: changed(line, recorded_at=5), InvalidInput),
    "an empty id": (lambda line: changed(line, event_id=""), InvalidInput),
    "no changes": (lambda line: changed(line, changes=[]), InvalidInput),
    "too many changes": (lambda line: changed(line, changes=[{}] * 1001), InvalidInput),
    "an unknown field": (lambda line: with_change(line, field="colour"), InvalidInput),
    "a value of the wrong shape": (lambda line: with_change(line, value=5), InvalidInput),
    "a value and removed": (lambda line: with_change(line, removed=True), InvalidInput),
    "no value, but a salt": (lambda line: with_change(line, value=...), InvalidInput),
    "removed as text": (lambda line: with_change(line, removed="yes"), InvalidInput),
    "a key that no caller can give": (lambda line: changed(line, idempotency_key="x" * 1025), InvalidInput),
    "another key": (lambda line: changed(line, idempotency_key="job-43"), CorruptEvent),
    "a hash that is a number": (lambda line: with_change(line, value_hash=5), InvalidInput),
    "a value too large": (lambda line: with_change(line, value="x" * 7_999_500), ValueTooLarge),
    "another value": (lambda line: with_change(line, value="forged"), CorruptEvent),
    "another user": (lambda line: changed(line, user_id="eve"), LedgerError),
    "another event before": (lambda line: changed(line, prev_hash="0" * 64), CorruptEvent),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_line_that_cannot_be_taken_is_named_and_its_session_left_out(
    tmp_path: Path, lines: list[bytes], bad: str
) -> None:
    spoil, kind = BAD[bad]
    lines[4] = spoil(lines[4])
    with open_ledger(tmp_path, "there") as there:
        with pytest.raises(kind, match=r"^Lines? [145]"):
            import_lines(there.store, lines)
        assert there.get_session("older") is None


def test_what_stood_before_a_bad_line_is_there_and_the_mended_file_brings_the_rest(
    tmp_path: Path, lines: list[bytes]
) -> None:
    with open_ledger(tmp_path, "there") as there:
        with pytest.raises(InvalidInput, match=r"^Line 5: "):
            import_lines(there.store, [*lines[:4], b"{", lines[5]])
        newer = there.get_session("newer")
        assert newer is not None
        assert newer.version == 3
        assert import_lines(there.store, lines).new == 3
        assert list(export_lines(there.store)) == lines


def test_an_event_that_is_missing_in_the_middle_breaks_the_chain(tmp_path: Path, lines: list[bytes]) -> None:
    del lines[1]
    with open_ledger(tmp_path, "there") as there:
        with pytest.raises(CorruptEvent, match=r"^Line 2: "):
            import_lines(there.store, lines)
        assert not there.list_sessions()


def test_blank_lines_are_passed_over_and_counted(tmp_path: Path, lines: list[bytes]) -> None:
    with open_ledger(tmp_path, "there") as there:
        assert import_lines(there.store, [b"\n", *lines, b"  \n"]).new == 6
        with pytest.raises(InvalidInput, match=r"^Line 3: "):
            import_lines(there.store, [b"\n", b"\n", b"x"])


def test_a_session_that_went_on_in_two_places_is_refused(tmp_path: Path, lines: list[bytes]) -> None:
    with open_ledger(tmp_path, "there") as there:
        import_lines(there.store, lines[:2])
        there.update_summary("newer", "went on here")
        with pytest.raises((WrongExpectedVersion, IdempotencyConflict), match=r"^Line \d: "):
            import_lines(there.store, lines)
        newer = there.get_session("newer")
        assert newer is not None
        assert newer.summary == "went on here"


def test_the_command_line_carries_a_ledger_over(shell: Shell, tmp_path: Path) -> None:
    session_id = shell.ok("new", "kept", "--user", "ada").strip()
    shell.ok("set", session_id, "summary", "done")
    file, other = tmp_path / "all.jsonl", f"sqlite:///{tmp_path / 'other.db'}"
    assert shell.json("export", "--output", str(file)) == {"events": 2}
    assert shell.json("import", str(file), "--url", other) == {"sessions": 1, "events": 2, "new_events": 2}
    assert shell.json("import", str(file), "--url", other) == {"sessions": 1, "events": 2, "new_events": 0}
    assert shell.ok("export", "--url", other).encode() == file.read_bytes()
    assert shell.ok("export", session_id).encode() == file.read_bytes()
    assert shell.ok("import", "-", "--url", other, stdin=file.read_bytes()) == (
        "1 session, 2 events: 0 new, 2 already recorded.\n"
    )


def test_the_command_line_names_the_line_that_it_refuses(shell: Shell) -> None:
    code, message = shell.fails("import", "-", stdin="\nnot json\n")
    assert code == 3
    assert message.startswith("Line 2: ")


def test_events_that_lost_their_hashes_are_refused(tmp_path: Path, lines: list[bytes]) -> None:
    stripped = []
    for line in lines:
        event = orjson.loads(line)
        event |= {"prev_hash": None, "event_hash": None}
        for change in event["changes"]:
            change |= {"value_hash": None, "value_salt": None}
        stripped.append(orjson.dumps(event) + b"\n")
    with SessionLedger.open(f"sqlite:///{tmp_path}/there.db", clock=SetClock(), ids=CountedIds(1000)) as there:
        with pytest.raises(CorruptEvent, match=r"Line 1: .*has no hash.*--unchained"):
            import_lines(there.store, stripped)
        for some in (stripped[:1] + lines[1:3], lines[:2] + stripped[2:3]):
            with pytest.raises(CorruptEvent, match=r"has no hash, and other events"):
                import_lines(there.store, some, unchained=True)
        assert list(export_lines(there.store)) == []
        assert import_lines(there.store, stripped, unchained=True).new == 6
        result = there.verify()
        assert (result.clean, result.events, result.unchained) == (True, 6, 6)


def test_a_line_of_an_earlier_release_has_no_key_and_a_key_that_was_taken_out_is_missed(
    tmp_path: Path, lines: list[bytes]
) -> None:
    assert [b'"idempotency_key":"job-42"' in line for line in lines] == [False, False, True] * 2
    assert not any(b"idempotency_key" in line for line in lines[:2])
    with open_ledger(tmp_path, "there") as there:
        assert import_lines(there.store, lines[:2]).new == 2
        assert verify(there.history("newer")) == 2
        with pytest.raises(CorruptEvent, match="version 3"):
            import_lines(there.store, [changed(lines[2], idempotency_key=...)])
        assert import_lines(there.store, lines).new == 4
        assert [it.idempotency_key for it in there.history("newer")] == [None, None, "job-42"]
        assert list(export_lines(there.store)) == lines


def test_a_gap_is_refused(tmp_path: Path, lines: list[bytes]) -> None:
    with open_ledger(tmp_path, "there") as there:
        for some in (lines[:1] + lines[2:3], lines[1:3]):
            with pytest.raises(CorruptEvent, match="versions are missing"):
                import_lines(there.store, some)
        assert list(export_lines(there.store)) == []


def test_a_number_that_an_older_release_wrote_in_another_way_is_recorded_as_it_was_hashed(tmp_path: Path) -> None:
    older = RecordedChange("context", "n", '{"a":[1e16,-2.5e20,1e-7],"e":"1e+16"}', removed=False)
    bare = replace(recorded(1, 1, [Change("context", "n", 1)]), changes=(older,))
    line = encode(chained_event(bare, None, ["5a"]))
    with open_ledger(tmp_path, "there") as there:
        assert import_lines(there.store, [line]).new == 1
        assert import_lines(there.store, [line]).new == 0
        assert list(export_lines(there.store)) == [line]
        assert there.verify().clean
