"""What a search finds is what a plain look through the states finds, in a file, on DuckDB and on BigQuery."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Change
from ledger.model.fold import State, fold
from ledger.model.ids import creation_day
from ledger.model.instants import to_micros
from ledger.model.queries import SearchQuery
from ledger.model.search import Match, SearchCursor, Terms
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import SetClock, event
from ledger.testing.harness import ALL
from ledger.testing.search import found
from ledger.warehouse.projection import Projection
from support import histories as h
from support.sql_targets import OnDuckDB, OnEmulator, Target

WORDS = [
    "ab",
    "AB",
    "a",
    "x1",
    "naïve",
    "NAÏVE",
    "naive",
    "Σς",
    "ΣΣ",
    "İs",
    "is",
    "हिन्दी",
    "हिन",
    "東京",
    "ß",
    "SS",
    "²",
    "caf\u00e9",
    "CAFE\u0301",
    "H\u0331",
    "\u1e96",
    "\u1100\u1161",
    "\uac00",
]
BETWEEN = [
    " ",
    ", ",
    "_",
    "\n",
    "-",
    "",
    "…",
    "\u2019",
    "🙂",
    "❤️",
    '"',
    "`",
    "%20",
    "\\",
    "\u0301",
    " \u0301",
    "\u200b",
]
TEXT = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(BETWEEN)), max_size=6).map(
    lambda pairs: "".join(part for pair in pairs for part in pair)
)
PARTS = st.lists(
    st.one_of(
        st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}),
        st.sampled_from([{"type": "image"}, {"text": 7}, {"text": None}, "ab", 5, None, ["ab"]]),
    ),
    max_size=3,
)
CONTENT = st.one_of(TEXT, PARTS, st.sampled_from([{"text": "ab"}, None, 5, True]))
MESSAGE = CONTENT.map(lambda content: {"role": "user", "content": content})
SLOTS: list[tuple[str, str, st.SearchStrategy[Any]]] = [
    ("title", "", TEXT),
    ("summary", "", TEXT),
    *(("message", key, MESSAGE) for key in "mn"),
    ("strategy", "", TEXT),
    ("status", "", st.sampled_from(["active", "deleted"])),
    ("grant", "eve", st.sampled_from(["read", "write"])),
]
CHANGE = st.sampled_from(SLOTS).flatmap(
    lambda slot: st.tuples(st.just(slot[0]), st.just(slot[1]), st.one_of(slot[2], slot[2], slot[2], st.none()))
)
CHANGES = st.lists(CHANGE, min_size=1, max_size=3, unique_by=lambda change: change[:2])
#: An event of one of three sessions; ann owns the first, bob the others.
STEPS = st.lists(st.tuples(st.sampled_from(["s1", "s2", "s3"]), CHANGES), min_size=1, max_size=12)
ASKED = st.lists(
    st.tuples(st.lists(st.sampled_from(WORDS), min_size=1, max_size=2), st.booleans()), min_size=1, max_size=2
)
quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def owner_of(session_id: str) -> str:
    return "ann" if session_id == "s1" else "bob"


def asked_for(asked: list[tuple[list[str], bool]]) -> tuple[str, list[list[str]]]:
    """The text to search for, and the rows of words that it asks for."""
    text = " ".join(f'"{" ".join(words)}"' if quoted else " ".join(words) for words, quoted in asked)
    rows = [row for words, quoted in asked for row in ([words] if quoted else [[word] for word in words])]
    return text, [[lower(word) for word in row] for row in rows]


def lower(word: str) -> str:
    """A word in lower case, character by character, with each accent part of its letter where there is such a letter.

    What Python makes of a dotted I loses its dot.
    """
    letters = unicodedata.normalize("NFC", "".join(letter.lower() for letter in word))
    return letters.replace("i\u0307", "i").replace("ς", "\u03c3")


def words_of(text: str) -> list[str]:
    """Runs of letters, digits and the marks that follow those, found character by character."""
    found, run = [], ""
    for letter in f"{text} ":
        kind = unicodedata.category(letter)[0]
        if kind in "LN" or (kind == "M" and run):
            run += letter
        elif run:
            found.append(lower(run))
            run = ""
    return found


def text_in(field: str, value: Any) -> str:
    if field != "message":
        return value if isinstance(value, str) else ""
    content = value["content"]
    if isinstance(content, list):
        return "\n".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return content if isinstance(content, str) else ""


def looked_through(state: State, rows: list[list[str]]) -> list[tuple[int, str, str]]:
    """The texts of a state that have every row of words: version, field and key, in order."""
    if (status := state.get(("status", ""))) and status.value == "deleted":
        return []
    found = []
    for (field, key), written in state.items():
        if field in ("message", "question", "summary", "title"):
            held = words_of(text_in(field, written.value))
            starts = range(len(held))
            if all(any(held[at : at + len(row)] == row for at in starts) for row in rows):
                found.append((written.version, field, key))
    return sorted(found)


def places(matches: list[Match]) -> dict[str, list[tuple[int, str, str]]]:
    """Version, field and key of each match, by session."""
    found: dict[str, list[tuple[int, str, str]]] = {}
    for match in matches:
        found.setdefault(match.session_id, []).append((match.version, match.field, match.key))
    return found


def expected(states: Mapping[str, State], rows: list[list[str]], sees: Callable[[str, State], bool]) -> dict[str, Any]:
    through = {
        session_id: looked_through(state, rows) for session_id, state in states.items() if sees(session_id, state)
    }
    return {session_id: matches for session_id, matches in through.items() if matches}


def visible_to(user_id: str) -> Callable[[str, State], bool]:
    return lambda session_id, state: owner_of(session_id) == user_id or ("grant", user_id) in state


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return tmp_path_factory.mktemp("search")


@settings(quick, max_examples=60)
@given(steps=STEPS, asked=ASKED, every=st.integers(1, 5))
def test_a_file_finds_what_stands_in_its_states(
    folder: Path, steps: list[tuple[str, list[Any]]], asked: list[tuple[list[str], bool]], every: int
) -> None:
    text, rows = asked_for(asked)
    (folder / "l.db").unlink(missing_ok=True)
    with closing(SqliteStore(folder / "l.db", clock=SetClock(), synchronous="NORMAL")) as store:
        for number, (session_id, changes) in enumerate(steps):
            made = [Change(field, key, value, removed=value is None) for field, key, value in changes]
            store.append(session_id, event(number, *made, user_id=owner_of(session_id)))
            if number % every and number < len(steps) - 1:
                continue
            heads = [head.session_id for head, _ in store.sessions(ALL)]
            states = {each: state[1] for each in heads if (state := store.state(each, with_messages=True))}
            assert places(found(store, text, limit=2)) == expected(states, rows, lambda *_: True)
            for user_id in ("ann", "eve"):
                seen = expected(states, rows, visible_to(user_id))
                assert places(found(store, text, visible_to=user_id)) == seen


def check(target: Target, steps: list[tuple[str, list[Any]]], asked: list[tuple[list[str], bool]]) -> None:
    text, rows = asked_for(asked)
    versions: dict[str, int] = {}
    events = []
    for session_id, changes in steps:
        versions[session_id] = versions.get(session_id, 0) + 1
        made = [(field, key, h.REMOVED if value is None else value) for field, key, value in changes]
        events.append(h.event(versions[session_id], *made, session=session_id, day=int(session_id[1])))
    target.load(h.shuffled(h.rows_of([*events, events[0]]), len(events)))
    states = {each: fold(event for event in events if event.session_id == each) for each in versions}
    first_day, end = creation_day(h.DAY)[0], h.DAY + timedelta(days=9)
    after = SearchCursor(to_micros(end), "", 0, "", "")

    def search(**criteria: Any) -> list[Match]:
        query = SearchQuery(Terms.of(text), **criteria)
        return Projection(target).search(first_day, end, after=after, query=query, at_most=99)

    matches = search()
    assert places(matches) == expected(states, rows, lambda *_: True)
    assert [match.session_id for match in matches] == sorted((match.session_id for match in matches), reverse=True)
    assert places(search(visible_to="eve")) == expected(states, rows, lambda _, state: ("grant", "eve") in state)
    if matches:
        first = SearchCursor.of_match(matches[0])
        rest = Projection(target).search(first_day, end, after=first, query=SearchQuery(Terms.of(text)), at_most=2)
        assert rest == matches[1:3]


@pytest.fixture(scope="module")
def on_duckdb(tmp_path_factory: pytest.TempPathFactory) -> OnDuckDB:
    return OnDuckDB(tmp_path_factory.mktemp("duckdb"))


@settings(quick, max_examples=15)
@given(steps=STEPS, asked=ASKED)
def test_duckdb_finds_what_stands_in_the_states(
    on_duckdb: OnDuckDB, steps: list[tuple[str, list[Any]]], asked: list[tuple[list[str], bool]]
) -> None:
    check(on_duckdb, steps, asked)


@pytest.mark.emulator
def test_bigquery_finds_what_stands_in_the_states(emulator: Any) -> None:
    target = OnEmulator(emulator, "search")

    @settings(quick, max_examples=4, phases=[Phase.explicit, Phase.generate])  # to shrink would take many minutes
    @given(steps=STEPS, asked=ASKED)
    def checked(steps: list[tuple[str, list[Any]]], asked: list[tuple[list[str], bool]]) -> None:
        check(target, steps, asked)

    try:
        checked()
    finally:
        target.close()
        emulator.client.delete_dataset("search", delete_contents=True)
