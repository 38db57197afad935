"""``ledger reconcile``: compare the ledger with its warehouse without reading values, and repair differences."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.relay import attached, with_warehouse
from ledger.cli.output.progress import progress
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import counted, safe
from ledger.cli.output.waiting import print_elsewhere
from ledger.cli.wording import in_commands
from ledger.clock import utc_now

if TYPE_CHECKING:
    from ledger.outbox.comparison import ComparableWarehouse
    from ledger.relay.reconcile import Reconciliation, Repaired, SessionDifference
    from ledger.sdk.ledger import SessionLedger
    from ledger.stores.base import ArchivedElsewhere
    from ledger.tiers.attached import AttachedWarehouse

COMMANDS: dict[str, click.Command] = {}
#: Exit code if the ledger and the warehouse still differ at the end.
DIFFERS = 1
#: Default number of days to compare.
DAYS = 7
_DAY = timedelta(days=1)
#: What is printed once if sessions have diverged.
_ON_DIVERGED = """\
A session that diverged has two histories: one is in the ledger, both are in the warehouse. No command merges them.
  After a second restore, the ledger may have neither to its end: each is in a file that a backup replaced.
  To go on with the ledger's, do nothing. The warehouse's views show of each value the one at the higher version, of
  whichever history. If the session is archived, its rows stay in the ledger, too.
  To go on with the ledger's in a session of which the views show nothing else: ledger fork SESSION_ID
  To go on with the other, take it from the file that has it, as the one that a backup replaced (ledger.db.replaced-*):
    ledger --url FILE fork SESSION_ID
    ledger --url FILE export NEW_ID | ledger import -
  A fork has the state and the messages; the history before it stays in the former session. `ledger delete SESSION_ID`
  hides that one, and `ledger purge SESSION_ID` removes both histories.
"""
#: What is printed once if rows of archived sessions are missing.
_ON_GONE = """\
The rows of an archived session were in the warehouse alone, and no other warehouse of the ledger has them; no command
can ship them again. Bring back a later copy of the warehouse: of a DuckDB file put a later backup in its place, in
BigQuery use time travel; then compare again.
  If there is none, the events are lost. `ledger purge SESSION_ID` removes what the ledger has left of the session.
"""


@dataclass(frozen=True, slots=True)
class _Repair:
    """The result of a repair.

    Attributes:
        repaired: What the repair did before it shipped rows, and which sessions it could not restore.
        sent: Number of rows that were then shipped. It includes rows that were waiting before the repair.
        after: The result of comparing the ledger with the warehouse again, after the repair.
    """

    repaired: Repaired
    sent: int
    after: Reconciliation


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a comparison, and of the repair after it.

    Attributes:
        warehouse: URL of the warehouse.
        before: The result of the comparison.
        repair: The result of the repair; None if nothing was repaired.
        elsewhere: The archived sessions that only other warehouses of the ledger have.
    """

    warehouse: str
    before: Reconciliation
    repair: _Repair | None
    elsewhere: Sequence[ArchivedElsewhere] = ()

    @property
    def left(self) -> Sequence[SessionDifference]:
        """The differences that are left."""
        return (self.before if self.repair is None else self.repair.after).differences

    def document(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return _document(
            self.warehouse, self.before, self.repair, {each[0]: each.warehouses for each in self.elsewhere}
        )

    def print(self) -> None:
        """Print a line per session that differs, the result of the repair, and a summary."""
        gone = {each.session_id for each in self.left if each.gone}
        _print(self.warehouse, self.before, self.repair, [each for each in self.elsewhere if each.session_id in gone])


@command(
    "reconcile",
    "ledger reconcile",
    "ledger reconcile --from 2026-11-01 --until 2026-11-30 --warehouse bigquery://my-project/ledger",
    "ledger reconcile --repair",
    into=COMMANDS,
)
@click.option(
    "--from",
    "first",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DAY",
    help="First day of creation of the sessions, in UTC.  [default: six days before --until; for a restored ledger "
    "that is not reconciled, also all days from its first session on]",
)
@click.option(
    "--until",
    "last",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DAY",
    help="Last day of creation, inclusive.  [default: today, or the day of the last session if that is later]",
)
@with_warehouse
@click.option("--repair", is_flag=True, help="Repair differences, and compare again.")
def reconcile(
    as_json: bool,
    url: str | None,
    first: datetime | None,
    last: datetime | None,
    warehouse: str | None,
    repair: bool,
) -> None:
    """Compare the ledger with its warehouse, for the sessions created in a range of days.

    Sessions are compared by version and hash; values are not read. Rows that wait to be shipped and events that the
    warehouse refused do not count as differences, and sessions of days that have expired in the warehouse are not
    compared. The exit code is 1 if differences remain.

    --repair ships missing rows again, and restores events that the ledger lost, for example when its file was replaced
    by a backup. Stop the relay first. Changed rows, duplicate rows and diverged sessions are only reported; for the
    latter, the choices are printed.
    """
    since, until = _span(first, last)
    with opened(url) as ledger:
        if first is None:
            since = min((since, *_marked_from(ledger, warehouse)))
        outcome = compare(ledger, warehouse, since, until, and_later=last is None, repair=repair)
    if as_json:
        print_json(outcome.document())
    else:
        outcome.print()
    if outcome.left:
        raise click.exceptions.Exit(DIFFERS)


def compare(
    ledger: SessionLedger,
    warehouse: str | None,
    created_from: datetime,
    created_until: datetime,
    *,
    and_later: bool,
    repair: bool,
) -> Outcome:
    """Compare a ledger with a warehouse, and repair what differs if ``repair`` is True.

    Args:
        ledger: The ledger.
        warehouse: URL of the warehouse; None for the DuckDB file of the ledger.
        created_from, created_until: Range of the sessions' creation times; ``created_until`` is exclusive.
        and_later: True to compare later sessions too, as a clock that was ahead has made them. Otherwise a restored
            ledger stays marked as not reconciled.
        repair: True to repair differences, and compare again.
    """
    from ledger.tiers.opening import require_outbox

    done = None
    with _open_warehouse(ledger, warehouse) as (target, comparable):
        before = _compare(target, comparable, created_from, created_until, and_later)
        if repair and any(each.missing or each.lost for each in before.differences):
            done = _repair(target, comparable, before, and_later)
        if and_later and not any(each.lost for each in (before if done is None else done.after).differences):
            target.outbox.reconciled(created_from)
        name = target.outbox.warehouse
        return Outcome(name, before, done, require_outbox(ledger.store).archived_elsewhere(name))


@contextmanager
def _open_warehouse(ledger: SessionLedger, url: str | None) -> Iterator[tuple[AttachedWarehouse, ComparableWarehouse]]:
    """Open the ledger's warehouse for the block of a ``with`` statement. Yield two objects that stand for it.

    The first object ships rows to the warehouse. The second object is what the functions of ``ledger.relay.reconcile``
    compare the ledger with.

    Args:
        ledger: The ledger.
        url: URL of the warehouse; None for the DuckDB file of the ledger.
    """
    from ledger.tiers.opening import require_outbox, warehouse_for
    from ledger.warehouse.row_comparison import ComparedRows

    target = attached(ledger, url)
    with closing(warehouse_for(require_outbox(ledger.store), target.url)) as opened_warehouse:
        yield target, ComparedRows(opened_warehouse)


def _span(first: datetime | None, last: datetime | None) -> tuple[datetime, datetime]:
    """Return the range of times from the first day to the last day, both included. Days are in UTC.

    The second time of the range is exclusive: it is midnight after the last day. If ``last`` is None, the last day is
    today, or ``first`` if that is later, and later sessions are compared too. If ``first`` is None, the range has
    ``DAYS`` days.
    """
    today = utc_now().replace(tzinfo=None)
    until = (last or max(today, first or today)).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    try:
        since = until - (DAYS - 1) * _DAY if first is None else first.replace(tzinfo=UTC)
        end = until + _DAY
    except OverflowError as error:
        raise click.UsageError(f"--until {until:%Y-%m-%d} is out of range.", click.get_current_context()) from error
    if since > until:
        raise click.UsageError(
            f"--from {since:%Y-%m-%d} is after --until {until:%Y-%m-%d}.", click.get_current_context()
        )
    return since, end


def _marked_from(ledger: SessionLedger, url: str | None) -> list[datetime]:
    """Return the first day to compare with a warehouse if the ledger was restored and not reconciled; else nothing."""
    from ledger.tiers.opening import require_outbox

    name = attached(ledger, url).outbox.warehouse
    return [each.created_from for each in require_outbox(ledger.store).unreconciled() if each.warehouse == name]


def _compare(
    target: AttachedWarehouse,
    comparable: ComparableWarehouse,
    created_from: datetime,
    created_until: datetime,
    and_later: bool,
) -> Reconciliation:
    from ledger.relay.reconcile import reconcile as compare

    return compare(target.outbox, comparable, created_from, created_until, and_later=and_later)


def _repair(
    target: AttachedWarehouse, comparable: ComparableWarehouse, before: Reconciliation, and_later: bool
) -> _Repair:
    """Repair the differences in ``before``, ship all waiting rows, and compare again."""
    from ledger.relay.reconcile import repair
    from ledger.stores.sqlite.lease import holder_name

    repaired = repair(before, target.outbox, comparable, holder=holder_name(uuid.uuid4().hex))
    with progress("Shipping rows", target.status().waiting_rows) as advance:
        sent = target.sync(progress=advance)
    after = _compare(target, comparable, before.created_from, before.created_until, and_later)
    return _Repair(repaired, sent, after)


def _document(
    warehouse: str, before: Reconciliation, repair: _Repair | None, elsewhere: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    document = {
        "warehouse": warehouse,
        "created_from": before.created_from,
        "created_until": before.created_until,
        "sessions": before.sessions,
        "rows": before.rows,
        "waiting_rows": before.waiting_rows,
        "refused_events": before.refused_events,
        "dismissed_events": before.dismissed_events,
        "expired_sessions": before.expired,
        "elsewhere": [session.session_id for session in before.elsewhere],
        "differences": [_difference_object(each, elsewhere) for each in before.differences],
    }
    if repair is not None:
        document["repaired"] = {
            "asked_rows": repair.repaired.asked_rows,
            "sent_rows": repair.sent,
            "events": repair.repaired.events,
            "not_brought_back": dict(repair.repaired.left),
        }
        document["left"] = [_difference_object(each, elsewhere) for each in repair.after.differences]
    return document


def _difference_object(difference: SessionDifference, elsewhere: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {
        "session_id": difference.session_id,
        "created_at": difference.created_at,
        "version_here": difference.version_here,
        "version_there": difference.version_there,
        "missing_rows": len(difference.missing),
        "unknown_rows": difference.unknown,
        "diverged": difference.diverged,
        "changed_rows": difference.changed,
        "doubled_rows": difference.doubled,
        "gone_rows": difference.gone,
        "rows_in": list(elsewhere.get(difference.session_id, ())),
    }


def _print(
    warehouse: str, before: Reconciliation, repair: _Repair | None, elsewhere: Sequence[ArchivedElsewhere]
) -> None:
    for line in _lines(before.differences):
        click.echo(safe(line))
    if repair is not None:
        events = counted(repair.repaired.events, "event")
        click.echo(f"Repaired: {counted(repair.sent, 'row')} shipped, {events} restored from the warehouse.")
        for session_id, reason in repair.repaired.left.items():
            click.echo(safe(f"{session_id} could not be restored: {in_commands(reason, session_id)}"))
        for line in _lines(repair.after.differences):
            click.echo(safe(f"Left: {line}"))
    after = before if repair is None else repair.after
    if any(each.diverged for each in after.differences):
        click.echo(_ON_DIVERGED, nl=False)
    print_elsewhere(elsewhere, warehouse)
    if sum(each.gone > 0 for each in after.differences) > len(elsewhere):
        click.echo(_ON_GONE, nl=False)
    click.echo(safe(_summary(warehouse, after)))


def _lines(differences: Sequence[SessionDifference]) -> Iterator[str]:
    for each in differences:
        unknown = "lost by the ledger" if each.lost else "unknown to the ledger"
        parts = (
            (len(each.missing), "missing in the warehouse"),
            (each.unknown, f"{unknown}, where the session diverged" if each.diverged else unknown),
            (each.changed, "changed in the warehouse"),
            (each.doubled, "duplicated in the warehouse, which views show once"),
            (each.gone, "of an archived session missing in the warehouse"),
        )
        counts = "; ".join(f"{counted(number, 'row')} {difference}" for number, difference in parts if number)
        versions = f"version {each.version_here} in the ledger, {each.version_there} in the warehouse"
        yield f"{each.session_id}: {counts} ({versions})"


def _summary(warehouse: str, comparison: Reconciliation) -> str:
    days = f"{comparison.created_from:%Y-%m-%d} to {comparison.created_until - _DAY:%Y-%m-%d}"
    number = len(comparison.differences)
    verdict = f"{counted(number, 'session')} differ{'s' if number == 1 else ''}" if number else "nothing differs"
    rows = counted(comparison.rows, "row")
    parts = [f"{counted(comparison.sessions, 'session')} and {rows} compared with {warehouse}, {days}: {verdict}."]
    if comparison.elsewhere:
        parts.append(f"{counted(len(comparison.elsewhere), 'session')} continued in another ledger.")
    if comparison.waiting_rows:
        parts.append(f"{counted(comparison.waiting_rows, 'row')} waiting.")
    if comparison.refused_events:
        parts.append(f"{counted(comparison.refused_events, 'event')} refused; see `ledger relay dead-letters`.")
    if comparison.dismissed_events:
        parts.append(f"{counted(comparison.dismissed_events, 'event')} dismissed.")
    if comparison.expired:
        parts.append(f"{counted(comparison.expired, 'session')} not compared: the warehouse has dropped their days.")
    return " ".join(parts)
