"""Search: words, snippets and places, what a user may give, and the embedded store's index."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace

import pytest

from ledger import CapabilityMissing, Change, InvalidInput, SessionLedger, StoreUnavailable
from ledger.model.events import RecordedEvent
from ledger.model.queries import SearchQuery
from ledger.model.search import MAX_TEXT, SNIPPET, SearchCursor, Terms, text_of, words
from ledger.model.upcast import Upcaster
from ledger.stores.sqlite import search_index
from ledger.stores.sqlite.migrations import MIGRATIONS, NORMAL_FORM
from ledger.stores.sqlite.schema import migrate
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import event
from ledger.testing.search import found, hits


def said(ledger: SessionLedger, *texts: str, session_id: str = "s") -> str:
    """A session with these messages, m0, m1 ..., and no other text."""
    ledger.create_session("ada", session_id=session_id)
    for number, text in enumerate(texts):
        ledger.add_message(session_id, "assistant", text, message_id=f"m{number}")
    return session_id


def index(ledger: SessionLedger) -> dict[str, list[str]]:
    """What the index holds: the words that it keeps of each slot."""
    with closing(sqlite3.connect(ledger.store.path)) as connection:
        if not search_index.exists(connection):
            return {}
        rows = connection.execute(
            "SELECT s.field || s.key, w.words FROM search_slots AS s LEFT JOIN search_words AS w ON w.rowid = s.id"
        ).fetchall()
        kept = [number for (number,) in connection.execute("SELECT rowid FROM search_words")]
        slots = [number for (number,) in connection.execute("SELECT id FROM search_slots")]
        assert set(kept) <= set(slots)
        return {slot: [] if held is None else held.split() for slot, held in rows}


# Words


def test_words_are_runs_of_letters_digits_and_their_marks():
    assert words("Foo_bar, x1: don't 1.5%") == ["foo", "bar", "x1", "don", "t", "1", "5"]
    assert words("ΣΊΣΥΦΟΣ Σίσυφος İs ÀÉ ß") == ["σίσυφοσ", "σίσυφοσ", "is", "àé", "ß"]
    assert words("हिन्दी 東京です ❤️ \u0301 \0") == ["हिन्दी", "東京です"]


def test_quotes_make_a_phrase_and_nothing_else_is_syntax():
    assert Terms.of('a "b  C" "d" a "" OR').terms == ("a", "b c", "d", "or")
    assert Terms.of('"not closed').terms == ("not", "closed")
    assert Terms.of('x"y z"w').single == ("x", "y", "z", "w")
    assert Terms.of('"b c"').in_text("a B, c")
    assert not Terms.of('"b c"').in_text("b a c bc")


@pytest.mark.parametrize("text", ["", " ", '"', '""', "?!*^-()", "🙂❤️", "\0", "\ud800", "\u0301", "_", "x" * 1001])
def test_a_text_without_a_word_or_too_long_is_refused(ledger, text):
    with pytest.raises(InvalidInput, match=r"word|characters"):
        ledger.search(text)


@pytest.mark.parametrize("text", [5, None, b"x", ["x"]])
def test_a_text_is_text(ledger, text):
    with pytest.raises(InvalidInput, match="must be text"):
        ledger.search(text)


@pytest.mark.parametrize(
    "text",
    [
        'a" OR "b',
        "a*",
        "words:a",
        "^a",
        "NEAR(a b)",
        "a AND NOT b",
        "{a b}:c",
        "a\0b",
        "a'; DROP TABLE meta; --",
        "a` `b",
    ],
)
def test_what_looks_like_a_query_language_is_words(ledger, text):
    said(ledger, "a", f"before {text} after", "b")
    assert [match.key for match in ledger.search(text)] == (["m0", "m1"] if words(text) == ["a"] else ["m1"])


def test_as_many_words_as_fit_are_found(ledger):
    text = "".join(f"{chr(0x4E00 + number)} " for number in range(MAX_TEXT // 2))
    said(ledger, text, text[2:])
    assert [match.key for match in ledger.search(text)] == ["m0"]
    assert [match.key for match in ledger.search(f'"{text.strip()}"'[:MAX_TEXT])] == ["m0"]
    with pytest.raises(InvalidInput, match="10,000"):
        ledger.search("x " * 5000)


def test_texts_of_parts_are_joined_and_all_else_has_none():
    assert text_of("message", {"content": [{"text": "a"}, {"image": 1}, {"text": 5}, "b", {"text": "c"}]}) == "a\nc"
    assert [text_of("message", value) for value in ({"content": {"text": "a"}}, {"content": 5}, {}, None)] == [""] * 4
    assert (text_of("title", "a"), text_of("title", None)) == ("a", "")


# Snippets and places


def test_a_snippet_is_one_line_around_the_first_hit():
    assert Terms.of("c").snippet(" a\n b\tc  <b>d</b> ") == "a b c <b>d</b>"
    long = Terms.of('"the needle"').snippet("hay needle " * 50 + "the NEEDLE " + "straw " * 500)
    assert long.startswith("…")
    assert long.endswith("…")
    assert "the NEEDLE straw" in long
    assert len(long) <= SNIPPET
    assert len(Terms.of("x" * 900).snippet("x" * 900)) == SNIPPET
    assert Terms.of("i").snippet("İ" * 9 + " i " + "z" * 300).startswith("İİİ")


def test_a_place_goes_through_text_and_no_other_text_is_one():
    place = SearchCursor(5, "s:é\"'", 3, "message", "m:🙂")
    assert SearchCursor.of(place.to_text()) == place
    for other in (place._replace(version=2**63), place._replace(created_at=-(2**61)), place._replace(key=5), (1, "x")):
        with pytest.raises(InvalidInput, match="after must be"):
            SearchCursor.of(SearchCursor.to_text(other))


# The index


def test_an_append_leaves_the_index_to_whoever_searches(ledger):
    said(ledger, "needle, first needle")
    assert index(ledger) == {}
    assert hits(ledger.store, "needle") == ["s"]
    ledger.add_message("s", "assistant", "second needle")
    assert index(ledger) == {"messagem0": ["needle", "first", "needle"]}
    assert len(ledger.search("needle")) == 2


def test_what_was_replaced_or_removed_leaves_the_index(ledger):
    said(ledger, "one", "two")
    ledger.update_summary("s", "three")
    assert len(ledger.search("one")) == 1
    ledger.add_message("s", "assistant", "four", message_id="m0")
    ledger.remove_message("s", "m1")
    ledger.update_summary("s", None)
    assert [list(ledger.search(word)) for word in ("one", "two", "three")] == [[], [], []]
    assert index(ledger) == {"messagem0": ["four"]}


def test_it_is_taken_up_in_steps_of_bounded_size(ledger, monkeypatch):
    monkeypatch.setattr(search_index, "SLOTS", 3)
    monkeypatch.setattr(search_index, "CHARACTERS", 50)
    steps = []
    take = search_index.take
    monkeypatch.setattr(search_index, "take", lambda connection, step: (steps.append(step), take(connection, step)))
    said(ledger, *["needle"] * 8, "x" * 60, "needle")
    assert len(ledger.search("needle")) == 9
    assert [len(step.entries) for step in steps] == [3, 3, 3, 1]
    assert len(ledger.search("needle")) == 9
    assert len(steps) == 4


def test_a_step_made_ready_for_another_state_of_the_index_is_left(ledger):
    said(ledger, "one", "two")
    store = ledger.store._local
    store._run(search_index.create)
    step = store._read(lambda connection: search_index.next_step(connection, store.last_seq()))
    assert hits(store, "one") == ["s"]
    ledger.add_message("s", "assistant", "three", message_id="m0")
    store.search(SearchQuery(Terms.of("x")))
    store._run(lambda connection: search_index.take(connection, step))
    assert index(ledger) == {"messagem0": ["three"], "messagem1": ["two"]}


def test_two_that_search_at_once_take_up_everything_once(ledger, monkeypatch):
    monkeypatch.setattr(search_index, "SLOTS", 2)
    said(ledger, *["needle"] * 20)
    counts: list[int] = []
    with closing(SqliteStore(ledger.store.path)) as other:
        threads = [
            threading.Thread(target=lambda store=store: counts.append(len(found(store, "needle"))))
            for store in (ledger.store, other, ledger.store, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counts == [20] * 4
    assert len(index(ledger)) == 20


def test_long_texts_are_found_though_the_index_has_them_in_part(ledger, monkeypatch):
    monkeypatch.setattr(search_index, "LARGE", 30)
    monkeypatch.setattr(search_index, "LARGE_VOCABULARY", 30)
    many = " ".join(f"w{number}" for number in range(20))
    said(
        ledger, "the needle", "the hay " * 10 + "the needle", "needle the " * 10, f"{many} the needle", f"{many} needle"
    )
    assert [match.key for match in ledger.search("needle")] == ["m0", "m1", "m2", "m3", "m4"]
    assert [match.key for match in found(ledger.store, '"the needle"', limit=2)] == ["m0", "m1", "m2", "m3"]
    assert [match.key for match in ledger.search("needle w7")] == ["m3", "m4"]
    assert index(ledger)["messagem1"] == ["hay", "needle", "the"]
    assert index(ledger)["messagem3"] == []


def test_a_text_of_fifty_thousand_distinct_words_is_in_the_index(ledger):
    vocabulary = [f"w{number}x" for number in range(50_000)]
    said(ledger, " ".join(vocabulary), "w17x hay")
    assert [match.key for match in ledger.search("w17x")] == ["m0", "m1"]
    assert [match.key for match in ledger.search('"w49998x w49999x" w0x')] == ["m0"]
    assert len(index(ledger)["messagem0"]) == 50_000


def test_large_texts_of_an_older_release_are_indexed_by_the_first_search(tmp_path):
    """It had no word of them in the index."""
    large = " ".join(f"w{number}x" for number in range(20_000))
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db") as ledger:
        said(ledger, large)
        ledger.search("w17x")
    with closing(sqlite3.connect(tmp_path / "l.db")) as connection, connection:
        connection.execute("DELETE FROM search_words")
        connection.execute("UPDATE search_slots SET kept = 'nothing' WHERE field = 'message'")
        connection.execute("DELETE FROM migrations WHERE name >= '010_large_texts'")
        connection.execute("ALTER TABLE archived_sessions DROP COLUMN kept")
        connection.execute("ALTER TABLE deleted_sessions DROP COLUMN purged_at")
        connection.execute("DROP VIEW session_history")
        connection.execute("ALTER TABLE session_events DROP COLUMN idempotency_key")
        connection.execute("DROP TABLE archived_in")
        connection.execute("DROP TABLE model_prices")
        connection.execute("PRAGMA user_version = 9")
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db") as ledger:
        assert [match.key for match in ledger.search("w17x")] == ["m0"]
        assert len(index(ledger)["messagem0"]) == 20_000


#: One word in two forms: the accent is part of its letter, or a mark that follows it.
COMPOSED, MARKED = "cr\u00e8me", "cre\u0300me"


@pytest.mark.parametrize("recorded", [COMPOSED, MARKED])
@pytest.mark.parametrize("asked", [COMPOSED, MARKED, "CRE\u0300ME"])
def test_a_word_is_found_in_either_normal_form_and_shown_as_it_was_recorded(ledger, recorded, asked):
    ledger.create_session("ada", f"{'so ' * 40}much {recorded} br\u00fbl\u00e9e", session_id="s")
    (match,) = ledger.search(f'"{asked} bru\u0302le\u0301e"')
    assert match.snippet.endswith(f"much {recorded} br\u00fbl\u00e9e")
    assert index(ledger)["question"][-2:] == [COMPOSED, "br\u00fbl\u00e9e"]


def as_before(text):
    """Fold a text as releases did whose index has words in the form in which they were recorded."""
    return text.lower().replace("\u03c2", "\u03c3").replace("i\u0307", "i")


@pytest.fixture
def indexed_before(tmp_path, clock, monkeypatch):
    """A function that returns a ledger's path whose schema and search index are those of an earlier release.

    It has one session in each form, one in ASCII letters, and one that was indexed before its title was replaced.
    """

    def make(schema):
        with monkeypatch.context() as earlier:
            earlier.setattr("ledger.model.search._folded", as_before)
            with SessionLedger.open(f"sqlite:///{tmp_path}/made.db", clock=clock) as ledger:
                for session_id, word in {"composed": COMPOSED, "marked": MARKED, "ascii": "cream"}.items():
                    said(ledger, f"the {word}", f"{word} again", session_id=session_id)
                ledger.create_session("ada", "q", session_id="retitled", fields={"title": MARKED})
                assert hits(ledger.store, MARKED) == ["retitled", "marked", "marked"]
                ledger.update_session("retitled", {"title": "custard"})
        path = tmp_path / "l.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            migrate(connection, "l.db", new_store_id="store-1", now=clock(), upto=schema)
            search_index.create(connection)
            connection.execute("ATTACH ? AS made", (str(tmp_path / "made.db"),))
            for table in ("session_events", "session_heads", "session_state", "search_slots"):
                names = [name for (name,) in connection.execute("SELECT name FROM main.pragma_table_info(?)", (table,))]
                connection.execute(f"INSERT INTO {table} SELECT {', '.join(names)} FROM made.{table}")
            connection.execute("INSERT INTO search_words (rowid, words) SELECT rowid, words FROM made.search_words")
            connection.execute("INSERT OR REPLACE INTO main.meta SELECT * FROM made.meta WHERE name <> 'epoch'")
        return path

    return make


@pytest.mark.parametrize("schema", range(6, MIGRATIONS.index(NORMAL_FORM) + 1))
def test_a_word_that_an_older_release_indexed_in_another_form_is_found_after_the_upgrade(indexed_before, schema):
    path = indexed_before(schema)
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        assert not ledger.verify().findings
        with closing(sqlite3.connect(path)) as connection:
            again = connection.execute("SELECT session_id FROM search_again ORDER BY session_id").fetchall()
        assert again == [("marked",), ("retitled",)]  # the others have the right words
        for asked in (COMPOSED, MARKED):
            assert sorted(hits(ledger.store, asked)) == ["composed"] * 2 + ["marked"] * 2
        assert (hits(ledger.store, "custard"), hits(ledger.store, "cream")) == (["retitled"], ["ascii"] * 2)
        assert not ledger.verify().findings
        with closing(sqlite3.connect(path)) as connection:
            kept = " ".join(words for (words,) in connection.execute("SELECT words FROM search_words"))
            assert "\u0300" not in kept
            assert connection.execute("SELECT COUNT(*) FROM search_again").fetchone() == (0,)


def test_a_ledger_whose_search_index_is_damaged_is_upgraded_and_the_index_built_again(indexed_before):
    path = indexed_before(11)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (11,)
        with connection:
            connection.execute("UPDATE search_words_content SET c0 = CAST(x'ff41' AS TEXT) WHERE id = 2")
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        assert {finding.code for finding in ledger.verify().findings} == {"search"}
        ledger.verify(rebuild=True)
        assert sorted(hits(ledger.store, COMPOSED)) == ["composed"] * 2 + ["marked"] * 2
        assert not ledger.verify().findings


def test_a_session_that_is_forgotten_leaves_the_index(ledger):
    said(ledger, "needle", "secret")
    said(ledger, "needle", session_id="t")
    assert hits(ledger.store, "needle") == ["t", "s"]
    assert index(ledger).keys() == {"messagem0", "messagem1"}
    assert ledger.store.purge("s", ledger.get_session("s").version)
    assert index(ledger) == {"messagem0": ["needle"]}
    assert hits(ledger.store, "needle") == ["t"]
    assert index(ledger) == {"messagem0": ["needle"]}


def test_of_an_archived_session_title_and_question_are_found_and_all_of_it_once_it_is_back(tmp_path, clock):
    place = f"duckdb:///{tmp_path}/w.duckdb"
    with SessionLedger(f"sqlite:///{tmp_path}/l.db", warehouse=place, clock=clock) as ledger:
        said(ledger, "needle")
        ledger.update_session("s", {"title": "needle", "summary": "needle"})
        fields = [match.field for match in ledger.search("needle")]
        ledger.archive_session("s")
        assert [match.field for match in ledger.search("needle")] == fields == ["message", "summary", "title"]
        ledger.warehouse.sync()
        assert ledger.drop_archived() == 1
        assert [match.field for match in ledger.search("needle")] == ["title"]
        assert index(ledger) == {"title": ["needle"]}
        ledger.hydrate_session("s")
        assert [match.field for match in ledger.search("needle")] == fields


def test_a_backup_finds_what_the_ledger_finds_and_goes_on(ledger, tmp_path, clock):
    said(ledger, "one")
    assert hits(ledger.store, "one") == ["s"]
    ledger.add_message("s", "assistant", "two")
    ledger.store.backup(tmp_path / "copy.db")
    ledger.add_message("s", "assistant", "three")
    with SessionLedger.open(f"sqlite:///{tmp_path}/copy.db", clock=clock) as copy:
        copy.add_message("s", "assistant", "four")
        assert [len(copy.search(word)) for word in ("one", "two", "three", "four")] == [1, 1, 0, 1]


def test_after_a_change_of_shape_the_new_texts_are_found(tmp_path, clock):
    def shout(old: RecordedEvent) -> RecordedEvent:
        changed = tuple(replace(it, text='"pin"') if it.field == "title" else it for it in old.changes)
        return replace(old, changes=changed, schema_version=2)

    with closing(SqliteStore(tmp_path / "l.db", clock=clock)) as store:
        store.append("s", event(1, Change("title", value="needle"), user_id="ada"))
        assert hits(store, "needle") == ["s"]
    with closing(SqliteStore(tmp_path / "l.db", clock=clock, upcaster=Upcaster(2, {1: shout}))) as store:
        assert (hits(store, "needle"), hits(store, "pin")) == ([], ["s"])


def test_a_file_that_is_as_large_as_it_may_be_takes_up_nothing(ledger):
    said(ledger, "needle")
    with closing(SqliteStore(ledger.store.path, max_bytes=1000)) as full:
        with pytest.raises(StoreUnavailable, match="max_bytes"):
            hits(full, "needle")
        assert hits(ledger.store, "needle") == hits(full, "needle") == ["s"]


def test_without_fts5_a_search_says_so_and_all_else_works(ledger, monkeypatch):
    monkeypatch.setattr(search_index, "has_fts5", lambda: False)
    said(ledger, "needle")
    assert not ledger.store.capabilities.search
    assert not ledger.for_user("ada").store.capabilities.search
    with pytest.raises(CapabilityMissing, match="FTS5"):
        ledger.search("needle")


def test_without_fts5_verify_passes_over_the_words(ledger, monkeypatch):
    said(ledger, "needle")
    assert hits(ledger.store, "needle") == ["s"]
    with closing(sqlite3.connect(ledger.store.path)) as connection, connection:
        connection.execute("UPDATE search_words_content SET c0 = 'other'")
    assert [finding.code for finding in ledger.verify().findings] == ["search", "search"]
    monkeypatch.setattr(search_index, "has_fts5", lambda: False)
    assert ledger.verify().findings == ()


def test_a_view_finds_what_its_user_sees(ledger):
    ledger.create_session("ada", "a needle", session_id="hers")
    ledger.create_session("bob", "a needle", session_id="his")
    ada = ledger.for_user("ada")
    assert [match.session_id for match in ada.search("needle")] == ["hers"]
    assert list(ada.search("needle", user_id="bob")) == list(ada.search("needle", session_id="his")) == []
    ledger.grant_access("his", "ada", "read")
    assert {match.session_id for match in ada.search("needle")} == {"hers", "his"}
    assert [match.session_id for match in ada.search("needle", user_id="bob")] == ["his"]
    assert [match.session_id for match in ledger.search("needle", user_id="ada")] == ["hers"]


@pytest.mark.parametrize("limit", ["SLOTS", "CHARACTERS"])
def test_the_index_grows_by_steps_of_limited_size(ledger, monkeypatch, limit):
    said(ledger, *("hello there" for _ in range(9)))
    monkeypatch.setattr(search_index, limit, 3)
    sizes, take = [], search_index.take

    def count(connection, step):
        sizes.append(len(step.entries))
        take(connection, step)

    monkeypatch.setattr(search_index, "take", count)
    assert hits(ledger.store, "hello") == ["s"] * 9
    assert max(sizes) <= 3
    assert len(sizes) > 2
