"""The part of ``SqliteStore`` that verifies sessions, and computes derived data again if they are wrong.

Sessions are verified in pages, ordered by id. Each page is read in one snapshot, so a session that is appended to
during the verification is read as it was at one moment. While a snapshot is open, SQLite cannot shorten its WAL. A page
has at least one session, so a session of a million events keeps a snapshot open for some seconds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ledger.errors import CorruptEvent, SessionNotFound, StoreRejected
from ledger.model.findings import Finding, Verification
from ledger.model.upcast import Upcaster
from ledger.model.values import check_session_id, check_whole
from ledger.stores.base import MAX_FINDINGS
from ledger.stores.sqlite import read, write
from ledger.stores.sqlite import search_index as index
from ledger.stores.sqlite.connections import Read
from ledger.stores.sqlite.state_cache import StateCache
from ledger.stores.sqlite.verify_errors import OF_VALUES, any_text, is_damage, printable, reason
from ledger.stores.sqlite.verify_file import check_words, damage, file_findings, words_pages
from ledger.stores.sqlite.verify_schema import has_triggers
from ledger.stores.sqlite.verify_sessions import LAST, Checked, SessionCheck

#: Number of sessions in the first page, in the largest page, and number of events that a page should have.
FIRST, LARGEST, EVENTS = 16, 512, 20_000
#: SQLite 3.44 checks the words of the index in its check of the file. An older release can check them only in a
#: transaction of the writer, where a table of more pages than this would delay appends too long.
CHECKS_WORDS, WORDS_PAGES = (3, 44), 20_000
#: Errors that may say that something in the file is damaged; see ``is_damage``.
DAMAGE = (StoreRejected, CorruptEvent, *OF_VALUES)
_NEXT = "SELECT session_id FROM session_heads WHERE session_id >= ? ORDER BY session_id LIMIT -1 OFFSET ?"


class SqliteVerification:
    """The part of ``SqliteStore`` that verifies sessions."""

    path: Path
    store_id: str
    _upcast: Upcaster
    _heads: write.KnownHeads
    _cache: StateCache
    _run: Callable[[Callable[[sqlite3.Connection], Any]], Any]
    _read: Read

    def verify(
        self,
        session_ids: Collection[str] | None = None,
        *,
        rebuild: bool = False,
        limit: int = MAX_FINDINGS,
        progress: Callable[[int], object] | None = None,
    ) -> Verification:
        """Verify sessions; see ``VerifyingStore.verify``.

        The words in the search index are always compared with the texts. FTS5's own data structures, with which it
        finds the words, are checked too, except on SQLite before 3.44 for an index of more than some
        20 MB, and for a ledger that is read-only.
        """
        check_whole(limit, "limit", at_least=0)
        mend = self._mend_findings if rebuild and not self._read(has_triggers) else None
        report = _Report(limit, mend)
        advance = progress or (lambda rows: None)
        if session_ids is None:
            report.add(self._verify_file())
            pages = self._pages(advance)
        else:
            ids = list(dict.fromkeys(check_session_id(session_id) for session_id in session_ids))
            pages = (self._check_named(session_id, advance) for session_id in ids)
        for page in pages:
            report.count(page)
            report.add(page.findings)
        return report.result()

    def _pages(self, progress: Callable[[int], object]) -> Iterator[Checked]:
        """Verify all sessions, and yield the result of each page."""
        after, size = "", FIRST
        while True:
            last: str | None = None
            try:
                last = self._read(partial(_last_of_page, after=after, size=size))
                between = after, LAST if last is None else last
                page = self._read(partial(self._check, progress=progress, between=between), snapshot=True)
            except DAMAGE as error:
                if not is_damage(error):
                    raise
                if _lacks_table(error):  # no session can be read
                    yield _unreadable("", f"the sessions cannot be verified: {reason(error)}")
                    return
                if size > 1:  # which of the sessions it is
                    size = 1
                    continue
                page = _unreadable(last or "", f"the rows after session {after!r} cannot be read: {reason(error)}")
            yield page
            if last is None:
                return
            after = last + "\0"  # the first text after it
            size = max(1, min(LARGEST, size * 2, size * EVENTS // max(page.events, 1)))

    def _check_named(self, session_id: str, progress: Callable[[int], object]) -> Checked:
        try:
            checked = self._read(
                lambda connection: self._check(connection, progress, (session_id, session_id)), snapshot=True
            )
        except DAMAGE as error:
            if not is_damage(error):
                raise
            return _unreadable(session_id, f"its rows cannot be read: {reason(error)}", sessions=1)
        if not checked.sessions:
            raise SessionNotFound(
                f"There is nothing of a session {session_id} to verify. List the sessions with: ledger list",
                session_id=session_id,
            )
        return checked

    def _check(
        self,
        connection: sqlite3.Connection,
        progress: Callable[[int], object],
        between: tuple[str, str | bytes],
    ) -> Checked:
        """Verify the sessions in a range of ids; see ``SessionCheck``."""

        def check() -> Checked:
            return SessionCheck(connection, self.store_id, self._upcast, progress, between).run()

        try:
            return check()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) is not None:
                raise
            with any_text(connection):  # a text is not UTF-8
                return check()

    def _verify_file(self) -> list[Finding]:
        """Verify the parts of the file that belong to no session, such as ``meta`` and the relays."""

        def work(connection: sqlite3.Connection) -> tuple[list[Finding], int]:
            found = list(damage(connection))
            with read.snapshot(connection):
                found += file_findings(connection, self.store_id, self._upcast.current)
            return found, words_pages(connection)

        found, pages = self._read(work)
        if sqlite3.sqlite_version_info < CHECKS_WORDS and 0 < pages <= WORDS_PAGES:
            words = self._check_words()
            found += [] if words is None else [words]
        return found

    def _check_words(self) -> Finding | None:
        """Check FTS5's own data structures, with SQLite before 3.44."""
        words: Finding | None = self._run(check_words)
        return words

    def _mend_findings(self, findings: list[Finding]) -> bool:
        """Mend the findings of one session, or those of the whole store. Return False if they cannot be mended."""
        (session_id,) = {finding.session_id for finding in findings}
        codes = {finding.code for finding in findings}
        if session_id or not codes <= {"search", "meta"}:
            return self._mend(lambda connection: self._mend_session(connection, session_id))
        mended = True
        if "search" in codes:
            mended = self._mend(_mend_index)
        if "meta" in codes:
            mended = self._mend(self._mend_meta) and mended
        return mended

    def _mend_meta(self, connection: sqlite3.Connection) -> bool:
        """Compute all states again, so that the schema version in ``meta`` is right. Return True."""
        write.refold(connection, self._upcast)
        return True

    def _mend_session(self, connection: sqlite3.Connection, session_id: str) -> bool:
        """Compute a session's state, head and search index again. Return False if that does not mend it.

        The session is verified again in the transaction that mends it, because it may have been appended to since.
        Something is left to find if its events are damaged, or if the tables do not keep what is written into them.
        """
        between = session_id, session_id
        checked = self._check(connection, lambda rows: None, between)
        if not all(finding.mendable for finding in checked.findings):
            return False
        codes = {finding.code for finding in checked.findings}
        head = checked.heads.get(session_id)
        if head is None and "state" in codes:  # nothing else is left of the session
            connection.execute("DELETE FROM session_state WHERE session_id = ?", between[:1])
        elif "state" in codes:
            write.refold_session(connection, session_id, self._upcast)
        if head is not None and "head" in codes:
            connection.execute("DELETE FROM session_heads WHERE session_id = ?", between[:1])
            connection.execute(write.PUT_HEAD, (session_id, *head))
        if "search" in codes:
            index.reindex(connection, session_id)
        return not self._check(connection, lambda rows: None, between).findings

    def _mend(self, work: Callable[[sqlite3.Connection], bool]) -> bool:
        """Run work that changes derived data, and clear this process's caches of heads and states.

        Return False if the work does, or if something that it reads or writes is damaged; then nothing is changed.
        """

        def mending(connection: sqlite3.Connection) -> bool:
            self._heads.clear()
            with suppress(_NotMended), write.all_or_none(connection):
                if work(connection):
                    return True
                raise _NotMended
            return False

        try:
            return bool(self._run(mending))
        except DAMAGE as error:
            if not is_damage(error):
                raise
            return False
        finally:
            self._cache.clear()


class _NotMended(Exception):
    """Rolls back what was written to mend a finding."""


class _Report:
    """The counts and findings of a verification in progress.

    Args:
        limit: Maximum number of findings to keep.
        mend: Function that mends the findings of one session, or of the whole store, and returns True if it did; None
            to mend nothing.
    """

    def __init__(self, limit: int, mend: Callable[[list[Finding]], bool] | None) -> None:
        self._limit = limit
        self._mend = mend
        self._of_store: set[Finding] = set()
        self._sum = Verification(0, 0, 0, 0)
        self._findings: list[Finding] = []
        self._mended: list[Finding] = []

    def count(self, page: Checked) -> None:
        """Add the counts of a page."""
        total = self._sum
        self._sum = replace(
            total,
            sessions=total.sessions + page.sessions,
            events=total.events + page.events,
            unchained=total.unchained + page.unchained,
            archived=total.archived + page.archived,
        )

    def add(self, findings: Iterable[Finding]) -> None:
        """Add findings, and mend those that can be mended. What several pages find of the store counts once."""
        by_session: dict[str, list[Finding]] = {}
        for finding in findings:
            if not finding.session_id:
                if finding in self._of_store:
                    continue
                self._of_store.add(finding)
            by_session.setdefault(finding.session_id, []).append(finding)
        for of_session in sorted(by_session.values(), key=lambda each: each[0].session_id != ""):
            mendable = [finding for finding in of_session if finding.mendable]
            mended = bool(mendable) and self._mend is not None and self._mend(mendable)
            room = max(0, self._limit - len(self._findings))
            kept = of_session[:room]
            self._findings += kept
            self._mended += [finding for finding in kept if mended and finding.mendable]
            left = of_session[room:] if not mended else [each for each in of_session[room:] if not each.mendable]
            self._sum = replace(self._sum, omitted=self._sum.omitted + len(left))

    def result(self) -> Verification:
        """Return the verification's result."""
        return replace(self._sum, findings=tuple(self._findings), mended=tuple(self._mended))


def _unreadable(session_id: str, message: str, *, sessions: int = 0) -> Checked:
    """Return the result of verifying sessions that cannot be read."""
    return Checked(sessions, 0, 0, 0, [Finding(printable(session_id), None, "unreadable", message)], {})


def _lacks_table(error: BaseException) -> bool:
    """Return True if an error says that the schema lacks a table, a column or an index."""
    return isinstance(error, StoreRejected) and reason(error).startswith("no such ")


def _mend_index(connection: sqlite3.Connection) -> bool:
    """Remove the search index, which the next search builds again. Return True."""
    index.rebuild(connection)
    return True


def _last_of_page(connection: sqlite3.Connection, after: str, size: int) -> str | None:
    """Return the id of the last session of a page of ``size`` sessions whose ids are ``after`` or greater.

    The page is larger if that id is not a text. Returns None if fewer sessions are left.
    """
    with any_text(connection), closing(connection.execute(_NEXT, (after, size - 1))) as found:
        return next(filter(_is_text, (session_id for (session_id,) in found)), None)


def _is_text(session_id: object) -> bool:
    return isinstance(session_id, str) and printable(session_id) == session_id
