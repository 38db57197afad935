"""``ledger reconcile``: whether the warehouse has what the ledger has, without downloading a value."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.relay import attached, with_warehouse
from ledger.cli.output.progress import progress
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import safe
from ledger.clock import utc_now

if TYPE_CHECKING:
    from ledger.outbox.comparison import ComparableWarehouse
    from ledger.relay.reconcile import Reconciliation, Repaired, SessionDifference
    from ledger.sdk.ledger import SessionLedger
    from ledger.tiers.attached import AttachedWarehouse

COMMANDS: dict[str, click.Command] = {}
#: The exit code where something differs and was not mended.
DIFFERS = 1
#: Days that are compared where none are named.
DAYS = 7
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Mended:
    """What was done about differences: ``sent`` rows were shipped again, and ``after`` was found afterwards."""

    repaired: Repaired
    sent: int
    after: Reconciliation


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
    help="The first day, in UTC, on which the sessions were created.  [default: six days before --until]",
)
@click.option(
    "--until",
    "last",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DAY",
    help="The last such day, compared as well.  [default: today]",
)
@with_warehouse
@click.option("--repair", "mend", is_flag=True, help="Mend what can be mended, and compare again.")
def reconcile(
    as_json: bool,
    url: str | None,
    first: datetime | None,
    last: datetime | None,
    warehouse: str | None,
    mend: bool,
) -> None:
    """Compare the ledger with its warehouse over days of creation, by session, versions and hashes.

    No value is read. Rows that wait to be shipped, and events that were refused, are no difference. --repair ships
    again what the warehouse lacks, and brings back events that the ledger lost, as when it was restored from a backup;
    no relay may be shipping meanwhile. Changed rows, rows that are there twice, and sessions that went on here and
    there are reported and left. The exit code is 1 where something is left.
    """
    created_from, created_until = _span(first, last)
    mended = None
    with opened(url) as ledger, _opened(ledger, warehouse) as (place, behind):
        found = _compared(place, behind, created_from, created_until)
        if mend and any(each.missing or each.lost for each in found.differences):
            mended = _mended(ledger, place, behind, found)
    if as_json:
        print_json(_object(place.outbox.warehouse, found, mended))
    else:
        _print(place.outbox.warehouse, found, mended)
    if (found if mended is None else mended.after).differences:
        raise click.exceptions.Exit(DIFFERS)


@contextmanager
def _opened(ledger: SessionLedger, url: str | None) -> Iterator[tuple[AttachedWarehouse, ComparableWarehouse]]:
    """The ledger's warehouse: as what it is shipped to, and as what is asked."""
    from ledger.warehouse.row_comparison import ComparedRows
    from ledger.warehouse.urls import open_warehouse

    place = attached(ledger, url)
    with closing(open_warehouse(place.url)) as behind:
        yield place, ComparedRows(behind)


def _span(first: datetime | None, last: datetime | None) -> tuple[datetime, datetime]:
    """The half-open span of some days, of which the last one belongs to it."""
    until = (last or utc_now()).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    try:
        since = until - (DAYS - 1) * _DAY if first is None else first.replace(tzinfo=UTC)
        end = until + _DAY
    except OverflowError as error:
        raise click.UsageError(
            f"--until {until:%Y-%m-%d} leaves no days to compare.", click.get_current_context()
        ) from error
    if since > until:
        raise click.UsageError(
            f"--from {since:%Y-%m-%d} is after --until {until:%Y-%m-%d}.", click.get_current_context()
        )
    return since, end


def _compared(
    place: AttachedWarehouse, behind: ComparableWarehouse, created_from: datetime, created_until: datetime
) -> Reconciliation:
    from ledger.relay.reconcile import reconcile as compare

    return compare(place.outbox, behind, created_from, created_until)


def _mended(
    ledger: SessionLedger, place: AttachedWarehouse, behind: ComparableWarehouse, found: Reconciliation
) -> _Mended:
    """Mend what was found, ship, and compare again: what is left is what a second look finds."""
    from ledger.relay.reconcile import repair
    from ledger.stores.sqlite.lease import owner_name

    repaired = repair(found, place.outbox, behind, holder=owner_name(uuid.uuid4().hex))
    with progress("Shipping rows", place.status().waiting_rows) as advance:
        sent = place.sync(progress=advance)
    return _Mended(repaired, sent, _compared(place, behind, found.created_from, found.created_until))


def _object(warehouse: str, found: Reconciliation, mended: _Mended | None) -> dict[str, Any]:
    shown = {
        "warehouse": warehouse,
        "created_from": found.created_from,
        "created_until": found.created_until,
        "sessions": found.sessions,
        "rows": found.rows,
        "waiting_rows": found.waiting_rows,
        "refused_events": found.refused_events,
        "elsewhere": [session.session_id for session in found.elsewhere],
        "differences": [_difference_object(each) for each in found.differences],
    }
    if mended is not None:
        shown["repaired"] = {
            "asked_rows": mended.repaired.asked_rows,
            "sent_rows": mended.sent,
            "events": mended.repaired.events,
            "not_brought_back": dict(mended.repaired.left),
        }
        shown["left"] = [_difference_object(each) for each in mended.after.differences]
    return shown


def _difference_object(difference: SessionDifference) -> dict[str, Any]:
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
    }


def _print(warehouse: str, found: Reconciliation, mended: _Mended | None) -> None:
    """One line for each session that differs, then what was done, then how it stands."""
    for line in _lines(found.differences):
        click.echo(safe(line))
    if mended is not None:
        repaired = mended.repaired
        click.echo(
            f"Repaired: {_count(mended.sent, 'row')} shipped, {_count(repaired.events, 'event')} brought back from the "
            "warehouse."
        )
        for session_id, why in repaired.left.items():
            click.echo(safe(f"{session_id} could not be brought back: {why}"))
        for line in _lines(mended.after.differences):
            click.echo(safe(f"Left: {line}"))
    click.echo(safe(_summary(warehouse, found if mended is None else mended.after)))


def _lines(differences: Sequence[SessionDifference]) -> Iterator[str]:
    for each in differences:
        unknown = "lost here" if each.lost else "unknown here"
        parts = (
            (len(each.missing), "missing in the warehouse"),
            (each.unknown, f"{unknown}, where the session went on as well" if each.diverged else unknown),
            (each.changed, "changed in the warehouse"),
            (each.doubled, "there more than once, which views show once"),
            (each.gone, "of an archived session gone from the warehouse"),
        )
        counts = "; ".join(f"{_count(number, 'row')} {what}" for number, what in parts if number)
        yield f"{each.session_id}: {counts} (version {each.version_here} here, {each.version_there} there)"


def _summary(warehouse: str, found: Reconciliation) -> str:
    days = f"{found.created_from:%Y-%m-%d} to {found.created_until - _DAY:%Y-%m-%d}"
    number = len(found.differences)
    verdict = f"{_count(number, 'session')} differ{'s' if number == 1 else ''}" if number else "nothing differs"
    compared = f"{_count(found.sessions, 'session')} and {_count(found.rows, 'row')} compared with {warehouse}"
    parts = [f"{compared}, {days}: {verdict}."]
    if found.elsewhere:
        parts.append(f"{_count(len(found.elsewhere), 'session')} went on in another ledger.")
    if found.waiting_rows:
        parts.append(f"{_count(found.waiting_rows, 'row')} still to be shipped.")
    if found.refused_events:
        parts.append(f"{_count(found.refused_events, 'event')} refused; see `ledger relay refused`.")
    return " ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
