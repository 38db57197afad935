"""Bad input: each kind is a class of the error tree with a message that helps, and no row is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ledger import (
    Change,
    IdempotencyConflict,
    InvalidInput,
    LedgerError,
    SessionLedger,
    StoreRejected,
    ValueTooLarge,
    WrongExpectedVersion,
)
from ledger.testing import SetClock

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001
Use = Callable[[SessionLedger], object]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db", clock=SetClock()) as opened:
        opened.create_session("ada", "q", session_id="s", event_id="begun")
        yield opened


ids = [
    (f"id {text!a:.12}", text) for text in ("", " ", "s ", "s\n", "s\x00", "\ud800", "s" * 256, 5, None, b"s", ["s"])
]
BAD: list[tuple[str, type[LedgerError], str, Use]] = [
    *(
        (f"{name} of a new session", InvalidInput, "session_id", lambda it, i=i: it.create_session("ada", session_id=i))
        for name, i in ids
        if i is not None
    ),
    *(
        (f"{name} of a change", InvalidInput, "session_id", lambda it, i=i: it.update_summary(i, "x"))
        for name, i in ids
    ),
    *((f"{name} of a read", InvalidInput, "session_id", lambda it, i=i: it.get_session(i)) for name, i in ids),
    *((f"{name} of a user", InvalidInput, "user_id", lambda it, i=i: it.create_session(i)) for name, i in ids),
    *(
        (f"{name} of an actor", InvalidInput, "actor", lambda it, i=i: it.update_summary("s", "x", actor=i))
        for name, i in ids
        if i is not None
    ),
    *(
        (f"{name} of a tool", InvalidInput, "tool_name", lambda it, i=i: it.update_tool_call_status("s", i, "pending"))
        for name, i in ids
    ),
    *(
        (
            f"{name} of a message",
            InvalidInput,
            "key of message",
            lambda it, i=i: it.add_message("s", "user", "x", message_id=i),
        )
        for name, i in ids
        if i is not None
    ),
    *(
        (
            f"{name} of a key",
            InvalidInput,
            "key of context",
            lambda it, i=i: it.update_session("s", {"context": {i: 1}}),
        )
        for name, i in ids
        if i != ["s"]
    ),
    ("a NaN", InvalidInput, "nan", lambda it: it.update_strategy("s", {"a": [float("nan")]})),
    ("an integer beyond JSON", InvalidInput, "record it as text", lambda it: it.update_strategy("s", 2**64)),
    ("a vast integer", InvalidInput, "bits", lambda it: it.update_strategy("s", [10**5000])),
    ("a lone surrogate", InvalidInput, "surrogate", lambda it: it.update_summary("s", "\ud800")),
    (
        "an object inside",
        InvalidInput,
        r"strategy\.at is of type object",
        lambda it: it.update_strategy("s", {"at": object()}),
    ),
    ("a generator", InvalidInput, r"message\[.*generator", lambda it: it.add_message("s", "user", (x for x in "a"))),
    ("a range", InvalidInput, r"attribute\['a'\]", lambda it: it.update_session("s", {"attribute": {"a": range(1)}})),
    ("a key that is none", InvalidInput, "keys are text", lambda it: it.update_constraints("s", {None: 2})),
    ("two keys of one text", InvalidInput, "two keys", lambda it: it.update_constraints("s", {1: 2, "1": 3})),
    ("a value too large", ValueTooLarge, "8,000,000", lambda it: it.update_summary("s", "x" * 8_000_000)),
    ("a fixed column", InvalidInput, "set by the ledger", lambda it: it.update_session("s", {"user_id": "eve"})),
    ("an unknown field", InvalidInput, "The fields are", lambda it: it.update_session("s", {"nope": 1})),
    (
        "an unknown field at the start",
        InvalidInput,
        "The fields are",
        lambda it: it.create_session("ada", fields={"nope": 1}),
    ),
    ("fields that are a list", InvalidInput, "fields must be", lambda it: it.create_session("ada", fields=["title"])),
    ("updates that are a list", InvalidInput, "Updates must be", lambda it: it.update_session("s", ["title"])),
    ("updates that are none", InvalidInput, "changes nothing", lambda it: it.update_session("s", {})),
    ("a keyed field without keys", InvalidInput, "tag is keyed", lambda it: it.update_session("s", {"tag": "x"})),
    ("a question that is a number", InvalidInput, "question must be text", lambda it: it.create_session("ada", 5)),
    ("constraints that are a list", InvalidInput, "object", lambda it: it.update_constraints("s", ["a"])),
    (
        "a call without a name",
        InvalidInput,
        "name",
        lambda it: it.update_constraints("s", {"tool_calls": [{"id": "a"}]}),
    ),
    (
        "a call whose id is a list",
        InvalidInput,
        "id of a tool call",
        lambda it: it.update_constraints("s", {"tool_calls": [{"name": "a", "id": ["b"]}]}),
    ),
    (
        "a status that is none",
        InvalidInput,
        "pending, running",
        lambda it: it.update_tool_call_status("s", "t", "done"),
    ),
    ("a role that is none", InvalidInput, "system, developer", lambda it: it.add_message("s", "robot", "x")),
    ("a naive time", InvalidInput, "no time zone", lambda it: it.update_summary("s", "x", occurred_at=NAIVE)),
    ("a naive end", InvalidInput, "no time zone", lambda it: it.update_session("s", {"expires_at": NAIVE})),
    ("a naive look back", InvalidInput, "no time zone", lambda it: it.get_session("s", at=NAIVE)),
    ("a naive range", InvalidInput, "no time zone", lambda it: it.list_sessions(created_from=NAIVE)),
    (
        "a wrong version",
        WrongExpectedVersion,
        "at version 1, not 7",
        lambda it: it.update_summary("s", "x", expected_version=7),
    ),
    (
        "a negative version",
        InvalidInput,
        "expected_version",
        lambda it: it.update_summary("s", "x", expected_version=-2),
    ),
    (
        "a version that is true",
        InvalidInput,
        "expected_version",
        lambda it: it.update_summary("s", "x", expected_version=True),
    ),
    (
        "an event_id used before",
        IdempotencyConflict,
        "new event_id",
        lambda it: it.update_summary("s", "x", event_id="begun"),
    ),
    (
        "an event_id that is a number",
        InvalidInput,
        "event_id",
        lambda it: it.update_summary("s", "x", event_id=5),
    ),
    ("a list of tags", InvalidInput, "tag must be text, not list", lambda it: it.add_tags("s", ["a", "b"])),
    ("a list of tags to take off", InvalidInput, "tag must be text", lambda it: it.remove_tags("s", "a", ["b"])),
    (
        "context to remove that is none",
        InvalidInput,
        "remove must be a list of names",
        lambda it: it.update_context("s", {"a": 1}, remove=None),
    ),
    ("results to remove that are 5", InvalidInput, "list of names", lambda it: it.set_results("s", {"a": 1}, remove=5)),
    (
        "counts of a list of types",
        InvalidInput,
        "session_type",
        lambda it: it.count_sessions("day", session_type=["a"]),
    ),
    ("counts by a list", InvalidInput, "by must be text", lambda it: it.count_sessions(["status"])),
    ("statuses that are 5", InvalidInput, "list of statuses", lambda it: it.delete_old_sessions(timedelta(1), 5)),
    ("a drain that is text", InvalidInput, "drain must be seconds", lambda it: it.close(drain="x")),
    ("a drain that is none", InvalidInput, "drain must be seconds", lambda it: it.close(drain=None)),
    ("a vast drain", InvalidInput, "more than 40 digits", lambda it: it.close(drain=10**5000)),
    ("an event_id that is empty", InvalidInput, "event_id", lambda it: it.update_summary("s", "x", event_id="")),
    (
        "an event_type",
        InvalidInput,
        "constraints.updated",
        lambda it: it.append("s", "Approved", [Change("title", value="x")]),
    ),
    ("changes that are pairs", InvalidInput, "Change", lambda it: it.append("s", "a.b", [("title", "x")])),
    ("no changes", InvalidInput, "changes nothing", lambda it: it.append("s", "a.b", [])),
    (
        "a slot set twice",
        InvalidInput,
        "twice",
        lambda it: it.append("s", "a.b", [Change("title", value="a"), Change("title", value="b")]),
    ),
]


@pytest.mark.parametrize(("kind", "match", "use"), [it[1:] for it in BAD], ids=[it[0] for it in BAD])
def test_bad_input_is_refused_and_writes_nothing(ledger, kind, match, use):
    before = ledger.store.rows_after(0, 1000)
    with pytest.raises(LedgerError, match=match) as refused:
        use(ledger)
    assert type(refused.value) is kind
    assert ledger.store.rows_after(0, 1000) == before
    assert ledger.get_session("s").version == 1


def test_a_closed_ledger_says_how_to_go_on(ledger):
    ledger.close()
    for use in (
        lambda: ledger.get_session("s"),
        lambda: ledger.update_summary("s", "x"),
        lambda: ledger.list_sessions(),
    ):
        with pytest.raises(StoreRejected, match=r"closed; open it again with SessionLedger\.open"):
            use()
