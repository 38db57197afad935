"""What the SDK returns as a pandas DataFrame: the rows and dtypes of the views, and lists in all else."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from ledger import AsyncSessionLedger, InvalidInput, MissingExtra, SessionLedger
from ledger.sdk.frames import MessagePage
from ledger.testing import CountedIds, SetClock

pandas = pytest.importorskip("pandas")
pytestmark = pytest.mark.duckdb

#: Each list, and the statement over a view with the same rows.
LISTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "sessions": (
        lambda ledger: ledger.list_sessions(),
        "SELECT {} FROM sessions ORDER BY created_at DESC, session_id DESC",
    ),
    "history": (
        lambda ledger: ledger.history("s1"),
        "SELECT {} FROM session_history WHERE session_id = 's1' ORDER BY version, field, key",
    ),
    "messages": (
        lambda ledger: ledger.get_messages("s1"),
        "SELECT {} FROM messages WHERE session_id = 's1' ORDER BY position",
    ),
    "tool_calls": (
        lambda ledger: ledger.get_tool_calls("s1"),
        "SELECT {} FROM tool_calls WHERE session_id = 's1' ORDER BY position",
    ),
}
#: Columns of sessions that the view lacks.
OWN = ["tags", "attributes", "error"]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionLedger]:
    """Two sessions; one has messages and calls of every kind, with large integers, texts for numbers and no values."""
    clock = SetClock()
    folder = tmp_path_factory.mktemp("frames")
    with SessionLedger.open(f"sqlite:///{folder}/l.db", clock=clock, ids=CountedIds()) as opened:
        for sid in ("s1", "s2"):
            clock.move(1)
            opened.create_session("ada", f"Wie viele, {sid}?", session_id=sid)
        calls = [{"name": "sql", "id": "a", "description": "Sums"}, {"name": "sql", "id": "b"}]
        opened.update_constraints("s1", {"n": 2**53 + 1, "tool_calls": calls})
        opened.update_tool_call_status("s1", "a", "running")
        clock.move(0.25)
        opened.update_tool_call_status("s1", "a", "completed", {"rate": 0.1, "none": None})
        opened.add_message("s1", "user", "hi", message_id="m1", token_count=2**53 + 1, metadata={"k": [1, None]})
        opened.add_message("s1", "assistant", [{"text": "hello"}], processing_time_ms=1.5, tools_used=["sql"])
        opened.add_message("s1", "tool", "")
        opened.update_session("s1", {"tag": {"weekly": True}, "attribute": {"topic": "orders"}, "title": "T"})
        yield opened


@pytest.mark.parametrize("name", LISTS)
def test_a_frame_is_the_one_that_sql_gives(ledger, name):
    read, statement = LISTS[name]
    frame = read(ledger).to_frame()
    assert len(frame) > 1
    shared = frame.drop(columns=OWN, errors="ignore")
    answer = ledger.sql(statement.format(", ".join(f"`{column}`" for column in shared))).to_frame()
    if name == "history":
        shared = shared.sort_values(["version", "field", "key"], ignore_index=True)
    pandas.testing.assert_frame_equal(shared, answer)


@pytest.mark.parametrize("name", LISTS)
def test_an_empty_list_gives_a_frame_with_its_columns_and_their_dtypes(ledger, name):
    full = LISTS[name][0](ledger)
    empty = type(full)().to_frame()
    assert len(empty) == 0
    pandas.testing.assert_series_equal(empty.dtypes, full.to_frame().dtypes)


def test_a_session_without_calls_and_a_list_without_sessions_give_empty_frames(ledger):
    assert ledger.get_tool_calls("s2").to_frame().shape == (0, 13)
    assert ledger.get_messages("s2").to_frame().columns[0] == "message_id"
    assert ledger.list_sessions("nobody").to_frame().columns[0] == "session_id"


def test_dtypes_are_times_in_utc_whole_numbers_and_decoded_values(ledger):
    messages = ledger.get_messages("s1").to_frame()
    told = {name: str(dtype) for name, dtype in messages.dtypes.items()}
    assert (told["recorded_at"], told["version"]) == ("datetime64[us, UTC]", "Int64")
    assert told["token_count"] == "Int64"
    assert messages["token_count"][0] == 2**53 + 1
    assert messages["token_count"][1] is pandas.NA
    assert messages["metadata"][0] == {"k": [1, None]}
    assert messages["text"].isna().tolist() == [False, True, False]
    session = ledger.list_sessions().to_frame().set_index("session_id").loc["s1"]
    assert (list(session["tags"]), session["attributes"]) == (["weekly"], {"topic": "orders"})


@pytest.mark.parametrize("value", ["many", "7", True, [1], 2**63, None])
def test_what_is_no_number_is_unknown(ledger, value):
    message = replace(ledger.get_messages("s1")[0], token_count=value, processing_time_ms=str(value))
    frame = MessagePage([message]).to_frame()
    assert frame["token_count"].isna().all()
    assert frame["processing_time_ms"].isna().all()
    assert [str(frame[name].dtype) for name in ("token_count", "processing_time_ms")] == ["Int64", "float64"]


def test_without_a_limit_all_sessions_are_listed(ledger):
    everything = ledger.list_sessions(limit=None)
    assert (len(everything), everything.next) == (2, None)
    first = ledger.list_sessions(limit=1)
    assert [it.session_id for it in ledger.list_sessions(limit=None, after=first.next)] == ["s1"]
    assert len(everything.to_frame()) == 2
    with pytest.raises(InvalidInput, match="limit"):
        ledger.list_sessions(limit=0)


@pytest.mark.parametrize("name", LISTS)
def test_they_are_lists_in_all_else(ledger, name):
    found = LISTS[name][0](ledger)
    copy = pickle.loads(pickle.dumps(found))
    assert type(copy) is type(found)
    assert [str(item) for item in copy] == [str(item) for item in found]
    assert copy.next is found.next is None
    assert type(found + found) is list
    assert found == list(found) == found[:]
    assert len(json.loads(json.dumps(found, default=lambda item: item.to_dict()))) == len(found)


def test_a_user_s_view_and_the_asynchronous_ledger_give_the_same_frames(ledger):
    async def read() -> list[Any]:
        async with AsyncSessionLedger.open(ledger.url) as other:
            return [await read(other) for read, _ in LISTS.values()]

    found = asyncio.run(read())
    for (read_one, _), other in zip(LISTS.values(), found, strict=True):
        expected = read_one(ledger).to_frame()
        pandas.testing.assert_frame_equal(other.to_frame(), expected)
        pandas.testing.assert_frame_equal(read_one(ledger.for_user("ada")).to_frame(), expected)


def test_pandas_is_imported_only_when_a_frame_is_asked_for(ledger, tmp_path):
    program = (
        "import sys, ledger\n"
        f"opened = ledger.SessionLedger.open({ledger.url!r})\n"
        "page = opened.list_sessions()\n"
        "assert not {'pandas', 'pyarrow'} & sys.modules.keys()\n"
        "page.to_frame()\n"
        "assert {'pandas', 'pyarrow'} <= sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_pandas_the_error_says_what_to_install(ledger, monkeypatch):
    monkeypatch.setattr("ledger.extras._is_installed", lambda module: module != "pandas")
    with pytest.raises(MissingExtra, match="Not installed: pandas"):
        ledger.list_sessions().to_frame()


def test_a_page_of_the_cursor_goes_on_where_it_ended(ledger):
    page = ledger.history("s1", limit=2)
    assert page.next == "2"
    assert ledger.history("s1", after=page.next, limit=1)[0].version == 3
    assert len(ledger.get_messages("s1", last=1).to_frame()) == 1
