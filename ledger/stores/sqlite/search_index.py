"""The index of the embedded store's search: the words of the texts that stand now, in a table of SQLite's FTS5.

An append does not touch it. Whoever searches first takes up what was written since, in steps: one reads and takes the
texts apart, outside of any transaction of the writer, then ``take`` writes what is bounded in size, in the writer's
turn. ``meta`` holds up to which ``seq`` rows are taken up, and counts the changes of the index, so that a step that
was made ready for another state of it is left. What is found is compared with ``session_state``: an entry that has
gone stale is never shown, and one whose text was erased, or has left the store, leaves the index with it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from typing import NamedTuple

from ledger.model.search import SEARCHED_FIELDS, text_of, words
from ledger.model.values import decode
from ledger.stores.sqlite import read

#: Of one step: so many slots, and so many characters of words. Half of the steps take 2 ms, one in twenty 10.
SLOTS, CHARACTERS = 200, 20_000
#: Of a longer text than this the index has each word once, and of one with more different words nothing: it is looked
#: through when somebody searches. Otherwise one text could hold up appends for a second.
LARGE = 50_000
_FIELDS = ", ".join(f"'{field}'" for field in SEARCHED_FIELDS)
_EXISTS = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'search_words'"
# Words come in lower case and with blanks between them (ledger.model.search), so that this tokenizer parts them only
# there: unicode61 would part and fold by the Unicode of SQLite's release.
_CREATE = "CREATE VIRTUAL TABLE IF NOT EXISTS search_words USING fts5(words, tokenize = 'ascii')"
# FTS5 merges its parts by the 64 pages: of a quarter of the size, they take a quarter of the time that appends wait.
_SMALL_PAGES = "INSERT INTO search_words (search_words, rank) VALUES ('pgsz', 1000)"
_SLOT = (
    "SELECT {}, st.version, st.event_id, COALESCE(st.value, b.value) FROM {} "
    "LEFT JOIN session_events AS b ON b.seq = st.event_seq {}"
)
#: The slots that rows wrote, as they are now: without a version where the slot was removed.
_BEYOND = _SLOT.format(
    "e.seq, e.session_id, e.field, e.key",
    "session_events AS e LEFT JOIN session_state AS st "
    "ON st.session_id = e.session_id AND st.field = e.field AND st.key = e.key",
    f"WHERE e.seq > ? AND e.seq <= ? AND e.field IN ({_FIELDS}) ORDER BY e.seq",
)
_OF_SESSION = _SLOT.format(
    "0, st.session_id, st.field, st.key",
    "session_state AS st",
    f"WHERE st.session_id = ? AND st.field IN ({_FIELDS}) AND NOT EXISTS (SELECT 1 FROM search_slots AS s "  # noqa: S608
    "WHERE s.session_id = st.session_id AND s.field = st.field AND s.key = st.key "
    "AND s.version = st.version AND s.event_id = st.event_id)",
)


class _Slot(NamedTuple):
    """A slot for the index; without a version it leaves it."""

    session_id: str
    field: str
    key: str
    version: int | None
    event_id: str
    kept: str
    words: str

    @property
    def register(self) -> tuple[str, str, str]:
        return self.session_id, self.field, self.key


class Step(NamedTuple):
    """What to write next.

    Attributes:
        turn: How often the index had changed when this was made ready.
        upto: The ``seq`` up to which rows are taken up then.
        done: The session that is taken up anew by then.
    """

    turn: int
    upto: int
    done: str | None
    slots: list[_Slot]


@cache
def has_fts5() -> bool:
    """Whether this Python's SQLite can search texts."""
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE tried USING fts5(words)")
        except sqlite3.OperationalError:
            return False
    return True


def exists(connection: sqlite3.Connection) -> bool:
    """Whether anybody has searched in this file."""
    return connection.execute(_EXISTS).fetchone() is not None


def create(connection: sqlite3.Connection) -> None:
    """Make the table of words, where it is not there."""
    connection.execute(_CREATE)
    connection.execute(_SMALL_PAGES)


def next_step(connection: sqlite3.Connection, wanted: int) -> Step | None:
    """What to take up next, of one moment; None where everything up to ``wanted`` is.

    Args:
        connection: In a snapshot.
        wanted: A ``seq``.
    """
    turn, upto = int(read.meta(connection, "search_turn")), int(read.meta(connection, "search_upto"))
    again = connection.execute("SELECT session_id FROM search_again LIMIT 1").fetchone()
    if again is None and upto >= wanted:
        return None
    found: dict[tuple[str, str, str], _Slot] = {}
    size = 0
    rows = connection.execute(_BEYOND, (upto, wanted)) if again is None else connection.execute(_OF_SESSION, again)
    for seq, session_id, field, key, version, event_id, text in rows:
        made = _slot(session_id, field, key, version, event_id, text)
        found[made.register] = made
        size += len(made.words)
        if len(found) >= SLOTS or size >= CHARACTERS:
            rows.close()
            return Step(turn, upto if again else seq, None, list(found.values()))
    return Step(turn, upto if again else wanted, again and again[0], list(found.values()))


def take(connection: sqlite3.Connection, step: Step) -> None:
    """Write a step into the index, unless that has changed meanwhile."""
    if int(read.meta(connection, "search_turn")) != step.turn:
        return
    for slot in step.slots:
        here = connection.execute(
            "SELECT id, version, event_id FROM search_slots WHERE session_id = ? AND field = ? AND key = ?",
            slot.register,
        ).fetchone()
        if here is not None:
            number, *written = here
            if written == [slot.version, slot.event_id]:
                continue
            _remove(connection, number)
        if slot.version is not None:
            number = connection.execute(
                "INSERT INTO search_slots (session_id, field, key, version, event_id, kept) VALUES (?, ?, ?, ?, ?, ?)",
                (*slot.register, slot.version, slot.event_id, slot.kept),
            ).lastrowid
            if slot.words:
                connection.execute("INSERT INTO search_words (rowid, words) VALUES (?, ?)", (number, slot.words))
    if step.done is not None:
        connection.execute("DELETE FROM search_again WHERE session_id = ?", (step.done,))
    connection.execute("UPDATE meta SET value = ? WHERE name = 'search_upto'", (str(step.upto),))
    _changed(connection)


def leave(connection: sqlite3.Connection, session_id: str) -> None:
    """Take a session out of the index, as part of the transaction in which its texts leave the store."""
    for (number,) in connection.execute("SELECT id FROM search_slots WHERE session_id = ?", (session_id,)).fetchall():
        _remove(connection, number)
    connection.execute("DELETE FROM search_again WHERE session_id = ?", (session_id,))
    _changed(connection)


def again(connection: sqlite3.Connection, session_id: str) -> None:
    """Have a session taken up anew, as part of the transaction in which its texts changed without new rows."""
    leave(connection, session_id)
    connection.execute("INSERT INTO search_again VALUES (?)", (session_id,))


def _slot(session_id: str, field: str, key: str, version: int | None, event_id: str, text: str | None) -> _Slot:
    held = words(text_of(field, None if version is None or text is None else decode(text)))
    kept, joined = "text", " ".join(held)
    if len(joined) > LARGE:
        kept, joined = "words", " ".join(sorted(set(held)))
    if len(joined) > LARGE:
        kept, joined = "nothing", ""
    return _Slot(session_id, field, key, version, event_id, kept, joined)


def _remove(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("DELETE FROM search_words WHERE rowid = ?", (number,))
    connection.execute("DELETE FROM search_slots WHERE id = ?", (number,))


def _changed(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE name = 'search_turn'")
