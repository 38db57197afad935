"""The index of the embedded store's search: the words of the current texts, in a table of SQLite's FTS5.

Appends do not update the index. A search first indexes the rows written since the last search, in steps of limited
size. ``next_step`` reads rows and splits texts into words, outside of any write transaction. ``take`` then writes the
step in a transaction of the writer. ``meta`` holds the last indexed ``seq`` and a counter of the index's changes. The
counter shows when a step was prepared for an earlier state of the index; such a step is discarded. A search compares
its matches with ``session_state``, so it never returns a stale entry. If a text is removed from the store, its entry
is removed from the index too.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from typing import NamedTuple

from ledger.errors import CorruptEvent
from ledger.model.search import SEARCHED_FIELDS, text_of, words
from ledger.model.values import decode
from ledger.stores.sqlite import read
from ledger.stores.sqlite.errors import damaged
from ledger.stores.sqlite.migrations import SEARCH
from ledger.stores.sqlite.verify_errors import is_damage

#: A step ends once it has this many registers, or words of this many characters in total. The median step takes 2 ms,
#: the 95th percentile 10 ms.
SLOTS, CHARACTERS = 200, 20_000
#: Maximum length of a text's words in the index, in characters. Of a longer text only the distinct words are indexed.
LARGE = 50_000
#: Maximum length of a text's distinct words in the index, in characters (some 100,000 words). If they are longer, none
#: is indexed, and each search reads the text. Without this limit, one text could delay appends for a second; at the
#: limit it delays them for about 0.1 s.
LARGE_VOCABULARY = 1_000_000
_FIELDS = ", ".join(f"'{field}'" for field in SEARCHED_FIELDS)
#: The FTS5 table of words; the names of FTS5's own tables begin with this name too.
WORDS = "search_words"
_EXISTS = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'search_words'"
# ``ledger.model.search`` gives words in lower case, separated by blanks, so this tokenizer splits only there: unicode61
# would split and fold by the Unicode version of SQLite's release.
_CREATE = "CREATE VIRTUAL TABLE IF NOT EXISTS search_words USING fts5(words, tokenize = 'ascii')"
# FTS5 merges 64 pages at a time: pages of a quarter of the size delay appends for a quarter of the time.
_SMALL_PAGES = "INSERT INTO search_words (search_words, rank) VALUES ('pgsz', 1000)"
_REGISTERS = (
    "SELECT {}, st.version, st.event_id, COALESCE(st.value, b.value) FROM {} "
    "LEFT JOIN session_events AS b ON b.seq = st.event_seq {}"
)
#: Query for the present state of the registers that a range of rows wrote. A removed register has the version NULL.
_NEW_REGISTERS = _REGISTERS.format(
    "e.seq, e.session_id, e.field, e.key",
    "session_events AS e LEFT JOIN session_state AS st "
    "ON st.session_id = e.session_id AND st.field = e.field AND st.key = e.key",
    f"WHERE e.seq > ? AND e.seq <= ? AND e.field IN ({_FIELDS}) ORDER BY e.seq",
)
_SESSION_REGISTERS = _REGISTERS.format(
    "0, st.session_id, st.field, st.key",
    "session_state AS st",
    f"WHERE st.session_id = ? AND st.field IN ({_FIELDS}) AND NOT EXISTS (SELECT 1 FROM search_slots AS s "  # noqa: S608
    "WHERE s.session_id = st.session_id AND s.field = st.field AND s.key = st.key "
    "AND s.version = st.version AND s.event_id = st.event_id)",
)


#: Number of pages of the index that a step of ``forget`` writes.
MERGED_PAGES = 100
#: Number of levels from which on ``forget`` has the index built anew. Before SQLite 3.44 each merge of all segments
#: added a level, and FTS5 refuses to open a table of more than 2,000.
_MOST_LEVELS = 1_900
#: Numbers of texts, and of their characters, up to which ``forget`` writes the texts again.
_MOST_ROWS, _MOST_CHARACTERS = 50_000, 10_000_000
#: Name in ``meta`` that stands from a purge until the texts are written again.
_PURGED = "search_purged"
_MERGE = "INSERT INTO search_words (search_words, rank) VALUES ('merge', ?)"


class _Entry(NamedTuple):
    """A register to index, or to remove from the index if ``version`` is None."""

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
    """The next writes to the index.

    Attributes:
        turn: The index's change counter when the step was prepared.
        upto: The last ``seq`` that is indexed once the step is written.
        done: The session that is completely indexed again once the step is written; None if there is none.
        entries: The registers to index or to remove.
    """

    turn: int
    upto: int
    done: str | None
    entries: list[_Entry]

    @property
    def work(self) -> tuple[object, ...]:
        """Identifies the step among those that one state of the store needs; each is needed once."""
        return self.upto, self.done, self.entries[0].register if self.entries else None


@cache
def has_fts5() -> bool:
    """Return True if this Python's SQLite has FTS5."""
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE tried USING fts5(words)")
        except sqlite3.OperationalError:
            return False
    return True


def exists(connection: sqlite3.Connection) -> bool:
    """Return True if the file has the table of words. The first search of a file creates this table."""
    return connection.execute(_EXISTS).fetchone() is not None


def is_readable(connection: sqlite3.Connection) -> bool:
    """Return True if the file has the table of words, and this Python's SQLite can read it."""
    return has_fts5() and exists(connection)


def create(connection: sqlite3.Connection) -> None:
    """Create the table of words if it is missing."""
    connection.execute(_CREATE)
    connection.execute(_SMALL_PAGES)


def problem(connection: sqlite3.Connection) -> str | None:
    """Return why the index cannot be read, for a message; None if it can, as far as a look at its first row shows."""
    try:
        connection.execute("SELECT session_id FROM search_again LIMIT 1").fetchone()
        slot = connection.execute(
            "SELECT id, session_id, field, key, version, event_id, kept FROM search_slots LIMIT 1"
        ).fetchone()
        if not exists(connection):
            return f"the table {WORDS} is missing" if slot else None
        if has_fts5():
            connection.execute(f"SELECT words FROM {WORDS} LIMIT 1").fetchone()  # noqa: S608
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return str(error)
    return None


def next_step(connection: sqlite3.Connection, wanted: int) -> Step | None:
    """Return the next step; None if every row up to ``wanted`` is indexed and no session must be indexed again.

    Args:
        connection: A connection that reads a snapshot.
        wanted: The last ``seq`` to index.
    """
    turn, upto = read.number(connection, "search_turn"), read.number(connection, "search_upto")
    again = connection.execute("SELECT session_id FROM search_again LIMIT 1").fetchone()
    if again is None and upto >= wanted:
        return None
    entries: dict[tuple[str, str, str], _Entry] = {}
    size = 0
    rows = (
        connection.execute(_NEW_REGISTERS, (upto, wanted))
        if again is None
        else connection.execute(_SESSION_REGISTERS, again)
    )
    for seq, session_id, field, key, version, event_id, text in rows:
        entry = _entry(session_id, field, key, version, event_id, text)
        entries[entry.register] = entry
        size += len(entry.words)
        if len(entries) >= SLOTS or size >= CHARACTERS:
            rows.close()
            return Step(turn, upto if again else seq, None, list(entries.values()))
    return Step(turn, upto if again else wanted, again and again[0], list(entries.values()))


def take(connection: sqlite3.Connection, step: Step) -> bool:
    """Write a step into the index. Return False, and do nothing, if the index has changed since it was prepared."""
    if read.number(connection, "search_turn") != step.turn:
        return False
    for entry in step.entries:
        indexed = connection.execute(
            "SELECT id, version, event_id FROM search_slots WHERE session_id = ? AND field = ? AND key = ?",
            entry.register,
        ).fetchone()
        if indexed is not None:
            rowid, *written = indexed
            if written == [entry.version, entry.event_id]:
                continue
            _remove_entry(connection, rowid)
        if entry.version is not None:
            rowid = connection.execute(
                "INSERT INTO search_slots (session_id, field, key, version, event_id, kept) VALUES (?, ?, ?, ?, ?, ?)",
                (*entry.register, entry.version, entry.event_id, entry.kept),
            ).lastrowid
            if entry.words:
                connection.execute("INSERT INTO search_words (rowid, words) VALUES (?, ?)", (rowid, entry.words))
    if step.done is not None:
        connection.execute("DELETE FROM search_again WHERE session_id = ?", (step.done,))
    connection.execute("UPDATE meta SET value = ? WHERE name = 'search_upto'", (str(step.upto),))
    _count_change(connection)
    return True


def remove(connection: sqlite3.Connection, session_id: str) -> None:
    """Remove a session from the index; call it in the transaction that removes its texts from the store."""
    for (number,) in connection.execute("SELECT id FROM search_slots WHERE session_id = ?", (session_id,)).fetchall():
        _remove_entry(connection, number)
    connection.execute("DELETE FROM search_again WHERE session_id = ?", (session_id,))
    _count_change(connection)


def forget(connection: sqlite3.Connection, *, first: bool) -> bool:
    """Remove words of deleted entries from the file, in a step of limited size. Return True if steps are left.

    FTS5 keeps the words of a deleted entry until it merges the segment that has them. Its option ``secure-delete``
    would remove them at once, but SQLite before 3.42 could not read the table any more.

    Args:
        connection: The writing connection.
        first: True for the first step, which lets FTS5 merge all segments into one.
    """
    if not is_readable(connection):
        return False
    if first and _levels(connection) > _MOST_LEVELS:
        rebuild(connection)
        return False
    before = connection.total_changes
    connection.execute(_MERGE, (-MERGED_PAGES if first else MERGED_PAGES,))
    if connection.total_changes - before >= 2:  # FTS5's documented sign that something was merged
        return True
    _write_texts_again(connection)
    return False


def mark_purged(connection: sqlite3.Connection) -> None:
    """Have ``forget`` write the indexed texts again; call it in the transaction that purges a session."""
    connection.execute(f"INSERT OR IGNORE INTO meta VALUES ('{_PURGED}', '1')")  # noqa: S608


def _write_texts_again(connection: sqlite3.Connection) -> None:
    """Write the indexed texts to new pages if a session was purged since the last time, unless they are large.

    When SQLite moves rows between pages, it leaves their former bytes in the unused space of a page, where
    ``secure_delete`` does not find them once the rows are deleted. Pages that become free are filled with zeros.
    """
    if not connection.execute(f"DELETE FROM meta WHERE name = '{_PURGED}'").rowcount:  # noqa: S608
        return
    texts = f"{WORDS}_content"
    rows, length = connection.execute(f"SELECT COUNT(*), TOTAL(LENGTH(c0)) FROM {texts}").fetchone()  # noqa: S608
    if rows <= _MOST_ROWS and length <= _MOST_CHARACTERS:
        kept = connection.execute(f"SELECT id, c0 FROM {texts}").fetchall()  # noqa: S608
        connection.execute(f"DELETE FROM {texts}")  # noqa: S608
        connection.executemany(f"INSERT INTO {texts} (id, c0) VALUES (?, ?)", kept)  # noqa: S608


def _levels(connection: sqlite3.Connection) -> int:
    """Return the number of levels of segments, from FTS5's structure record; 0 if there is none."""
    row = connection.execute(f"SELECT block FROM {WORDS}_data WHERE id = 10").fetchone()  # noqa: S608
    block: bytes = b"" if row is None else row[0]
    start = 8 if block[4:8] == b"\xff\x00\x00\x01" else 4  # a cookie, and in newer files a mark
    levels = 0
    for byte in block[start : start + 3]:
        levels = levels << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return levels


def most_steps(connection: sqlite3.Connection) -> int:
    """Return a number of steps of ``forget`` that is never needed: each merges at least one page of the index."""
    pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
    return 100 + 8 * pages  # a page of the file has up to four of the index


def reindex(connection: sqlite3.Connection, session_id: str) -> None:
    """Remove a session from the index, and let the next search index it again.

    A search indexes rows with a new ``seq`` anyway. Call this function in a transaction that changes a session's texts
    without such rows.
    """
    remove(connection, session_id)
    connection.execute("INSERT INTO search_again VALUES (?)", (session_id,))


def indexed(field: str, text: str | None) -> tuple[str, str]:
    """Return what the index must store for a value: the column ``search_slots.kept``, and the words as one text.

    Args:
        field: One of ``SEARCHED_FIELDS``.
        text: The value as canonical JSON text; None if there is none.
    """
    all_words = words(text_of(field, None if text is None else decode(text)))
    joined = " ".join(all_words)
    if len(joined) <= LARGE:
        return "text", joined
    joined = " ".join(sorted(set(all_words)))
    return ("words", joined) if len(joined) <= LARGE_VOCABULARY else ("nothing", "")


def rebuild(connection: sqlite3.Connection) -> None:
    """Remove the whole index, and let the next search build it again from the current texts.

    The tables are created anew, because what is damaged may be one of them.
    """
    for name in (WORDS, "search_slots", "search_again"):
        _drop(connection, name)
    rest = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB ?"
    for (name,) in connection.execute(rest, (f"{WORDS}_*",)).fetchall():  # of a table of words that is gone
        connection.execute(f'DROP TABLE "{name}"')
    for statement in SEARCH.statements:
        if statement.lstrip().startswith("CREATE"):
            connection.execute(statement)
    # No row of an archived session is left that would bring its texts into the index.
    archived = "INSERT INTO search_again SELECT session_id FROM session_heads WHERE store_id = ''"
    connection.execute(archived)
    connection.execute("INSERT INTO meta VALUES ('search_upto', '0') ON CONFLICT DO UPDATE SET value = excluded.value")
    try:  # larger than before, so that a step of an earlier state of the index is discarded
        turn = read.number(connection, "search_turn") + 1
    except CorruptEvent:  # no step was prepared for it
        turn = 1
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('search_turn', ?)", (str(turn),))


def _drop(connection: sqlite3.Connection, name: str) -> None:
    """Drop a table of the index, or what is in its place."""
    found = connection.execute("SELECT type, sql FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    if found is None:
        return
    try:
        connection.execute(f"DROP {'VIEW' if found[0] == 'view' else 'TABLE'} {name}")
    except sqlite3.DatabaseError as error:
        if not is_damage(error) or not str(found[1]).upper().startswith("CREATE VIRTUAL"):
            raise
        # FTS5 drops its table only if it can open it.
        connection.execute("PRAGMA writable_schema = ON")
        try:
            connection.execute("DELETE FROM sqlite_schema WHERE name = ?", (name,))
        finally:
            connection.execute("PRAGMA writable_schema = RESET")


def _entry(session_id: str, field: str, key: str, version: int | None, event_id: str, text: str | None) -> _Entry:
    try:
        kept, joined = indexed(field, None if version is None else text)
    except CorruptEvent as error:
        raise damaged("session_state", session_id, str(error), version=version or 0) from error
    return _Entry(session_id, field, key, version, event_id, kept, joined)


def _remove_entry(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("DELETE FROM search_words WHERE rowid = ?", (number,))
    connection.execute("DELETE FROM search_slots WHERE id = ?", (number,))


def _count_change(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE name = 'search_turn'")
