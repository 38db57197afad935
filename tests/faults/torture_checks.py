"""What a torture run checks while all processes are at rest, and at its end."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from faults import torture_journal
from faults.kill import whole_session
from faults.soak_sides import Event, Told, compared, row_of, rows_of
from faults.torture_journal import Account
from ledger import LedgerError, SessionLedger
from ledger.formats.events import export_lines, import_lines
from ledger.model.instants import to_micros
from ledger.model.queries import SessionQuery
from ledger.outbox.columns import NAMES

#: How many backups and exports are opened at a checkpoint.
SAMPLE = 2
#: Longer than any clock of the run was ahead.
AHEAD = timedelta(days=60)


class Checks:
    """The checks of one run; what they find is added to ``violations`` as a kind and what was seen.

    Args:
        folder: The run's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/ledger.db"
        self.warehouse = f"duckdb:///{folder}/warehouse.duckdb"
        self.violations: list[tuple[str, str]] = []
        self.figures: dict[str, int] = {}
        self.account = Account()
        self.opened = {"backups": 0, "exports": 0}

    def at_rest(self) -> None:
        """Check the ledger while its processes rest: the file, and that all is there that was acknowledged."""
        self.account = torture_journal.read(self.folder)
        self._file(self.folder / "ledger.db")
        with SessionLedger.open(self.url, create=False, warehouse=self.warehouse) as ledger:
            self._verify(ledger, "at rest")
            self._acknowledged(lambda name: _events(ledger, name), _events_of_file(self.folder / "ledger.db"))
        self._files()

    def at_end(self) -> None:
        """Ship what waits, bring back what is archived, and check every session and every row, here and there."""
        self.account = torture_journal.read(self.folder)
        self._file(self.folder / "ledger.db")
        with SessionLedger.open(self.url, create=False, warehouse=self.warehouse, default_ttl_hours=None) as ledger:
            self._try("sync", ledger.warehouse.sync)
        ahead = SessionLedger.open(
            self.url,
            create=False,
            warehouse=self.warehouse,
            default_ttl_hours=None,
            clock=lambda: datetime.now(UTC) + AHEAD,
        )
        with ahead as ledger:
            self._try("drop_archived", ledger.drop_archived)
            self._try("delete_old_sessions", lambda: ledger.delete_old_sessions(timedelta(0), ["deleted"]))
            for name in [*_names(ledger, "archived")]:
                self._try(f"hydrate {name}", lambda name=name: ledger.hydrate_session(name))
            self._try("sync", ledger.warehouse.sync)
            self._verify(ledger, "at the end")
            self._sessions(ledger)
            here = [*rows_of(ledger)]
        self._deleted(here)
        self._compare(here)
        self._file(self.folder / "ledger.db")
        self._files()

    # -- parts --------------------------------------------------------------------------------------------------------

    def see(self, kind: str, what: str) -> None:
        """Add a violation."""
        self.violations.append((kind, what))

    def _try(self, what: str, act: Callable[[], Any]) -> None:
        try:
            act()
        except (LedgerError, AssertionError) as error:
            self.see("fails at the end", f"{what}: {type(error).__name__}: {error}")

    def _file(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchall()
        if found != [("ok",)]:
            self.see("integrity_check", f"{path.name}: {found[:3]}")

    def _verify(self, ledger: SessionLedger, when: str) -> None:
        """``ledger verify``: each chain, state, head and index entry."""
        found = ledger.verify()
        if not found.clean:
            self.see("verify", f"{when}: {len(found.findings) + found.omitted} findings, such as {found.findings[:3]}")

    def _sessions(self, ledger: SessionLedger) -> None:
        """Compute each session again, without the help of ``verify``, and check what was acknowledged of it."""
        found: dict[str, dict[str, int]] = {}
        texts: set[str] = set()
        for name in _names(ledger):
            try:
                events = whole_session(ledger, name)
            except (LedgerError, AssertionError) as error:
                self.see("not whole", f"{type(error).__name__}: {error}")
                continue
            found[name] = {event.event_id: event.version for event in events}
            if len(found[name]) != len(events):
                self.see("doubled", f"{name}: {len(events)} events, {len(found[name])} event_ids")
            said = [
                str(change.text)
                for event in events
                if event.event_type == "message.added"
                for change in event.changes
                if change.field == "message"
            ]
            texts.update(text for text in said if said.count(text) > 1)
        if texts:
            self.see("doubled", f"{len(texts)} messages are there more than once, such as {[*texts][:2]}")
        self.figures["sessions"] = len(found)
        self.figures["events"] = sum(map(len, found.values()))
        self._acknowledged(lambda name: found.get(name, {}), found)

    def _acknowledged(
        self, events_of: Callable[[str], Mapping[str, int]], here: Mapping[str, Mapping[str, int]]
    ) -> None:
        """Check that what was acknowledged is there, and what was refused is not."""
        asked: dict[str, Mapping[str, int]] = {}
        lost: list[Event] = []
        for (name, event_id), version in self.account.acknowledged.items():
            if name in self.account.doomed or here.get(name, {}).get(event_id) == version:
                continue
            if name not in asked:
                asked[name] = events_of(name)
            if asked[name].get(event_id) != version:
                lost.append((name, event_id))
        for event in lost[:5]:
            self.see("acknowledged event lost", f"{event} of {len(lost)}: {self.account.acknowledged[event]}")
        for (name, event_id), error in self.account.refused.items():
            if event_id in here.get(name, {}) and (name, event_id) not in self.account.acknowledged:
                self.see("written although refused", f"{name} {event_id}: {error}")
        gone = [name for name in self.account.created - self.account.doomed if name not in here and not events_of(name)]
        if gone:
            self.see("acknowledged session lost", f"{len(gone)}: {gone[:3]}")
        self.figures["acknowledged"] = len(self.account.acknowledged)

    def _deleted(self, here: list[tuple[Any, ...]]) -> None:
        """Check that what was deleted for good is nowhere."""
        left = self.account.deleted & {row[NAMES.index("session_id")] for row in here}
        left_there = self.account.deleted & {row[NAMES.index("session_id")] for row in self._rows_there()}
        if left or left_there:
            self.see("not deleted", f"in the file {sorted(left)[:3]}, in the warehouse {sorted(left_there)[:3]}")
        self.figures["deleted for good"] = len(self.account.deleted)

    def _compare(self, here: list[tuple[Any, ...]]) -> None:
        """Compare the file and the warehouse row by row."""
        try:
            self.figures["rows compared"] = compared(here, [*self._rows_there()], Told())["rows"]
        except AssertionError as error:
            self.see("warehouse differs", str(error)[:1000])

    def _rows_there(self) -> Iterator[tuple[Any, ...]]:
        with duckdb.connect(str(self.folder / "warehouse.duckdb"), read_only=True) as connection:
            for row in connection.execute(f"SELECT {', '.join(NAMES)} FROM session_events").fetchall():
                values = dict(zip(NAMES, row, strict=True))
                times = {
                    name: to_micros(values[name].replace(tzinfo=UTC))
                    for name in ("occurred_at", "recorded_at", "created_at")
                }
                yield row_of(values | times)

    def _files(self) -> None:
        """Open some of the backups and exports made since, and remove all of them."""
        for path in sorted(self.folder.glob("*.backup"))[:SAMPLE]:
            if path.name in self.account.backups:  # else the call failed or was killed
                self._backup(path, self.account.backups[path.name])
        for path in sorted(self.folder.glob("*.export"))[:SAMPLE]:
            if path.name in self.account.exports:
                self._export(path, self.account.exports[path.name])
        for kind in ("backup*", "export", "part"):
            for path in self.folder.glob(f"*.{kind}"):
                path.unlink()

    def _backup(self, path: Path, floors: Mapping[str, int]) -> None:
        self.opened["backups"] += 1
        self._file(path)
        with SessionLedger.open(f"sqlite:///{path}", create=False) as ledger:
            kept = _events_of_file(path)
            self._verify(ledger, path.name)
            with closing(sqlite3.connect(path)) as connection:  # of an archived session only the head may be left
                heads = dict(connection.execute("SELECT session_id, version FROM session_heads"))
            for name, version in floors.items():
                there = min(heads.get(name, 0), len(kept[name]) if kept.get(name) else 2**63)
                if name not in self.account.doomed and there < version:
                    self.see("backup lacks events", f"{path.name}: {name} at {there}, not {version}")

    def _export(self, path: Path, floors: Mapping[str, int]) -> None:
        self.opened["exports"] += 1
        lines = path.read_bytes().splitlines(keepends=True)
        with SessionLedger.open(f"sqlite:///{path}.db") as fresh:
            self._try(f"import of {path.name}", lambda: import_lines(fresh.store, lines))
            there = [name for name in floors if fresh.get_session(name) is not None]
            if [*export_lines(fresh.store, there)] != lines:
                self.see("export differs", f"{path.name}: a ledger that is filled from it exports other lines")
            for name, version in floors.items():
                if len(_events(fresh, name)) < version and name not in self.account.doomed:
                    self.see("export lacks events", f"{path.name}: {name}, {version} were acknowledged before")
        for file in self.folder.glob(f"{path.name}.db*"):
            file.unlink()


def _names(ledger: SessionLedger, status: str | None = None) -> Iterator[str]:
    after: str | None = None
    while True:
        page = ledger.store.sessions(SessionQuery(status=status), after=after, limit=500)
        yield from (head.session_id for head, _ in page)
        if (after := page.next) is None:
            return


def _events(ledger: SessionLedger, name: str) -> dict[str, int]:
    found: dict[str, int] = {}
    after: str | None = "0"
    while after is not None:
        page = ledger.store.events(name, after=int(after), limit=5000)
        found |= {event.event_id: event.version for event in page}
        after = page.next
    return found


def _events_of_file(path: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    with closing(sqlite3.connect(path)) as connection:
        for name, event_id, version in connection.execute(
            "SELECT DISTINCT session_id, event_id, version FROM session_events"
        ):
            found.setdefault(name, {})[event_id] = version
    return found
