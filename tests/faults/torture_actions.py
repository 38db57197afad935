"""What the threads of a torture run do with a ledger, and what each call checks at once.

An action follows from its token, ``seed-process-start-thread-number``; what it meets does not. Only the calls of the
ledger may be struck by an exception, never the lines between them.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from faults.strikes import STRUCK, Interruption, Target, TimeLimit
from faults.torture_board import PLACES, RUN, Board
from faults.torture_journal import Journal
from ledger import (
    AppendResult,
    Change,
    IdempotencyConflict,
    LedgerError,
    OutcomeUnknown,
    SessionEnded,
    SessionLedger,
    SessionNotFound,
)
from ledger.formats.events import export_lines, import_lines

T = TypeVar("T")
USER = "ada"
#: Versions after which a place's session is left for a new one.
LONG = 150
#: Backups and exports that wait for the next checkpoint.
KEPT = 6
#: Share of calls that an exception may strike, and the seconds within which it does; most calls end before.
STRUCK_SHARE, STRUCK_WITHIN = 0.2, 0.02


class Seen(Exception):
    """A promise was broken; the arguments are its kind and what was seen."""


class Actions:
    """The actions of one thread.

    Args:
        ledger: Shared by the threads of the process.
        board, row: See ``Board``.
        journal: This thread's.
        target: This thread, if its calls may be struck.
        folder: For backups and exports.
    """

    def __init__(
        self, ledger: SessionLedger, board: Board, row: int, journal: Journal, target: Target | None, folder: Path
    ) -> None:
        self.ledger = ledger
        self.board = board
        self.row = row
        self.journal = journal
        self.target = target
        self.folder = folder
        self.own = ""  # a session that no other thread knows
        self.chance = random.Random()
        self.token = ""

    def one(self, action: str, token: str) -> str:
        """Do one action; return its outcome."""
        self.token, self.chance = token, random.Random(token)
        try:
            getattr(self, action)()
        except STRUCK:
            return "struck"
        except OutcomeUnknown:
            return "unknown"
        except LedgerError as error:
            self.journal.write("refusal", f"{action}: {type(error).__name__}")
            return "refused"
        return "done"

    # -- appends ------------------------------------------------------------------------------------------------------

    def message(self) -> None:
        """Append a message to a session of all."""
        self.append_to_place(lambda name, given: self.ledger.add_message(name, "user", f"{self.token} said", **given))

    def fields(self) -> None:
        """Set fields of a session of all, in one row or many."""
        many = self.chance.choice([1, 2, 12])
        changes = [Change("context", f"k{number}", [self.token, number]) for number in range(many)]
        self.append_to_place(lambda name, given: self.ledger.append(name, "plan.approved", changes, **given))

    def append_to_place(self, append: Callable[[str, dict[str, Any]], AppendResult]) -> None:
        """Append to the session of a place; begin it if it does not exist."""
        place, generation, name = self._place()
        floor = self.board.floor(place, generation)
        try:
            done = self._append(name, append)
        except SessionNotFound:
            if floor and self.board.doomed[place] < generation:
                raise Seen("lost session", f"{name} at {floor} is not found") from None
            if self.board.doomed[place] < generation:
                self._begin(name)
            return
        except SessionEnded:
            if self.chance.random() < 0.3:
                self._leave(place, generation)
            else:
                self._ask(lambda: self.ledger.hydrate_session(name))
            return
        if not done.replayed and done.version <= floor:
            raise Seen("version given twice", f"{name}: {done.version} although {floor} was acknowledged before")
        self.board.acknowledge(self.row, place, generation, done.version)
        if done.version >= LONG:
            self._leave(place, generation)

    def create(self) -> None:
        """Create a session of one's own, which may expire."""
        ttl = self.chance.choice([None, None, timedelta(hours=1)])
        given = str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
        made = self._ask(lambda: self.ledger.create_session(USER, self.token, ttl=ttl, event_id=given))
        self.journal.write("created", made)
        if ttl is None:
            self.own = made

    def fork_session(self) -> None:
        """Copy a session at some version."""
        place, generation, name = self._place()
        version = self.board.floor(place, generation)
        if version:
            at = self.chance.choice([None, self.chance.randrange(1, version + 1)])
            self.journal.write("created", self._ask(lambda: self.ledger.fork_session(name, at_version=at)))

    def rewind(self) -> None:
        """Go back to some version."""
        place, generation, name = self._place()
        version = self.board.floor(place, generation)
        if version > 1:
            self._ask(lambda: self.ledger.rewind(name, self.chance.randrange(1, version)))

    # -- reads --------------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Read the latest state: nothing that anybody was told of before may be missing."""
        place, generation, name = self._place()
        floor = self.board.floor(place, generation)
        found = self._ask(lambda: self.ledger.get_session(name, messages=self.chance.random() < 0.2))
        if self.board.doomed[place] >= generation:
            return
        version = 0 if found is None else found.version
        if version < floor:
            raise Seen("stale read", f"get_session({name}) at {version} although {floor} was acknowledged before")
        self.board.count(self.row, "reads checked")

    def read_version(self) -> None:
        """Read the state at a version."""
        place, generation, name = self._place()
        floor = self.board.floor(place, generation)
        if floor:
            version = self.chance.randrange(1, floor + 1)
            found = self._ask(lambda: self.ledger.get_session(name, version=version))
            if (found is None or found.version != version) and self.board.doomed[place] < generation:
                raise Seen("stale read", f"get_session({name}, version={version}): {found and found.version}")
            self.board.count(self.row, "reads checked")

    def history(self) -> None:
        """Read the latest events."""
        place, generation, name = self._place()
        floor = self.board.floor(place, generation)
        after = max(0, floor - 20)
        events = self._ask(lambda: self.ledger.history(name, after=after)) if floor else []
        versions = [event.version for event in events]
        if self.board.doomed[place] < generation and versions != list(range(after + 1, after + len(versions) + 1)):
            raise Seen("a gap", f"history({name}, after={after}): {versions}")
        if self.board.doomed[place] < generation and after + len(versions) < floor:
            raise Seen("stale read", f"history({name}, after={after}) up to {versions[-1:]}, not {floor}")
        self.board.count(self.row, "reads checked")

    def list(self) -> None:
        """List the newest sessions; only errors and waits are checked."""
        self._ask(lambda: self.ledger.list_sessions(USER, limit=20))

    def search(self) -> None:
        """Find what this thread has just said."""
        own, word = self._own(), f"w{uuid.UUID(int=self.chance.getrandbits(128)).hex}"
        self._append(own, lambda name, given: self.ledger.add_message(name, "user", f"{self.token} {word}", **given))
        found = self._ask(lambda: self.ledger.search(word, session_id=own))
        if len(found) != 1:
            raise Seen("stale read", f"search() finds {len(found)} of 1 message acknowledged before, in {own}")
        self.board.count(self.row, "reads checked")

    def scan(self) -> None:
        """Read without a pause, as reports do: much of the time a connection is in use when somebody forks."""
        until = time.monotonic() + self.chance.choice([1, 1, 1, 1, 12]) * self.chance.uniform(0, 2)
        while time.monotonic() < until and self.board.phase[0] == RUN:
            self._ask(lambda: self.ledger.search("said", limit=1000))

    def share(self) -> None:
        """Grant access to a guest, who reads, and revoke it."""
        own, guest = self._own(), f"guest of {self.token}"
        self._append(own, lambda name, given: self.ledger.grant_access(name, guest, "read", **given))
        if self._ask(lambda: self.ledger.for_user(guest).get_session(own)) is None:
            raise Seen("stale read", f"{guest} does not see {own} after the grant was acknowledged")
        self._append(own, lambda name, given: self.ledger.revoke_access(name, guest, **given))
        with suppress(OSError), open(self.folder / "revoked", "a") as file:  # the disk may be full
            file.write(f"\n{own}\t{guest}\n")
        self._refuse(own, guest)

    def look_as_revoked(self) -> None:
        """Read as a guest whom somebody has revoked before."""
        try:
            with open(self.folder / "revoked", "rb") as file:
                file.seek(max(0, file.seek(0, 2) - 3000))
                lines = [line.decode().split("\t") for line in file.read().split(b"\n")[1:-1] if line.count(b"\t") == 1]
        except FileNotFoundError:
            return
        if lines:
            self._refuse(*self.chance.choice(lines))

    def query(self) -> None:
        """Ask the warehouse."""
        self._ask(lambda: self.ledger.warehouse.query("SELECT COUNT(*) AS n FROM sessions"))

    # -- the life of sessions and files -------------------------------------------------------------------------------

    def archive(self) -> None:
        """Archive a session of all, or the one before it."""
        _, _, name = self._place(back=self.chance.choice([0, 1, 1]))
        self._ask(lambda: self.ledger.archive_session(name))

    def hydrate(self) -> None:
        """Bring one back."""
        _, _, name = self._place(back=self.chance.choice([0, 1]))
        self._ask(lambda: self.ledger.hydrate_session(name))

    def delete(self) -> None:
        """Delete a session for good; all threads go on with another one."""
        place, generation, name = self._place()
        self.journal.write("doomed", name)
        self.board.doomed[place] = max(self.board.doomed[place], generation)
        self._leave(place, generation)
        self._ask(lambda: self.ledger.delete_session(name))
        self.journal.write("deleted", name)
        self._ask(lambda: self.ledger.delete_old_sessions(timedelta(0), ["deleted"]))

    def maintain(self) -> None:
        """Maintain the ledger; the retention is longer than the clock jumps."""
        self._ask(lambda: self.ledger.maintain(retention=timedelta(days=100)))

    def sync(self) -> None:
        """Ship what waits."""
        self._ask(self.ledger.warehouse.sync)

    def backup(self) -> None:
        """Make a backup, which holds all that was acknowledged before."""
        if len([*self.folder.glob("*.backup")]) < KEPT:
            floors, path = self._floors(range(PLACES)), self.folder / f"{self.token}.backup"
            self._ask(lambda: self.ledger.store.backup(path))
            self.journal.write("backups", path.name, floors)

    def export(self) -> None:
        """Export sessions, whole."""
        if len([*self.folder.glob("*.export")]) < KEPT:
            floors = self._floors([self.chance.randrange(PLACES)])
            lines = self._ask(lambda: [*export_lines(self.ledger.store, floors)])
            path = self.folder / f"{self.token}.export"
            with suppress(OSError):  # the disk may be full
                path.with_suffix(".part").write_bytes(b"".join(lines))
                path.with_suffix(".part").rename(path)
                self.journal.write("exports", path.name, floors)

    def import_(self) -> None:
        """Import what is there already: nothing is new."""
        lines = self._ask(lambda: [*export_lines(self.ledger.store, [self._own()])])
        done = self._ask(lambda: import_lines(self.ledger.store, lines))
        if done.new or done.events != len(lines):
            raise Seen("doubled", f"an import of what is there: {done}")

    # -- parts --------------------------------------------------------------------------------------------------------

    def _ask(self, call: Callable[[], T]) -> T:
        """Make one call of the ledger's, which may be struck."""
        if self.target is None or not self.board.has("interrupts"):
            return call()
        struck = self.chance.random() < STRUCK_SHARE
        delay = self.chance.uniform(0, STRUCK_WITHIN) ** 2 / STRUCK_WITHIN if struck else None
        return self.target.call(call, delay, self.chance.choice([TimeLimit, Interruption]))

    def _append(self, name: str, append: Callable[[str, dict[str, Any]], AppendResult]) -> AppendResult:
        """Append one event, and write down what was said of it; one whose outcome is unknown may be sent again."""
        event_id = str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
        is_unknown = False
        while True:
            try:
                done = self._ask(lambda: append(name, {"event_id": event_id}))
            except (*STRUCK, OutcomeUnknown):
                is_unknown = True
                if self.chance.random() < 0.5:
                    raise
                self.board.count(self.row, "sent again")
                continue
            except IdempotencyConflict as error:
                raise Seen("conflict with itself", f"{name} {event_id}: {error}") from error
            except LedgerError as error:
                if not is_unknown:
                    self.journal.write("refused", name, event_id, f"{type(error).__name__}: {error}")
                raise
            self.journal.write("acknowledged", name, event_id, done.version)
            self.board.count(self.row, "events acknowledged")
            return done

    def _place(self, *, back: int = 0) -> tuple[int, int, str]:
        """A place, its generation, counted from 1, and the session's id."""
        place = self.chance.randrange(PLACES)
        generation = max(1, self.board.generation[place] + 1 - back)
        return place, generation, f"place {place} generation {generation}"

    def _leave(self, place: int, generation: int) -> None:
        """Have all threads go on with the next generation."""
        self._begin(f"place {place} generation {generation + 1}")
        self.board.generation[place] = max(self.board.generation[place], generation)

    def _begin(self, name: str) -> None:
        """Begin a session, as others may at the same time."""
        self._ask(lambda: self.ledger.create_session(USER, "q", session_id=name, event_id=f"begin {name}", ttl=None))
        self.journal.write("created", name)

    def _own(self) -> str:
        """A session that no other thread knows."""
        if not self.own:
            made = self._ask(lambda: self.ledger.create_session(USER, "own", ttl=None))
            self.journal.write("created", made)
            self.own = made
        return self.own

    def _floors(self, places: Iterable[int]) -> dict[str, int]:
        """Sessions of places, and the versions that were acknowledged by now."""
        found = {}
        for place in places:
            generation = self.board.generation[place] + 1
            if floor := self.board.floor(place, generation):
                found[f"place {place} generation {generation}"] = floor
        return found

    def _refuse(self, session_id: str, guest: str) -> None:
        """Check that a revoked guest sees nothing."""
        found = self._ask(lambda: self.ledger.for_user(guest).get_session(session_id))
        if found is not None:
            raise Seen("stale read", f"{guest} sees {session_id} after access was revoked")
        self.board.count(self.row, "revoked guests refused")
