"""``ledger restore-backup``: put a backup in the place of a ledger, and bring back what the warehouse has beyond it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.reconcile import DIFFERS, Outcome, compare
from ledger.cli.output.progress import progress
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import counted, safe
from ledger.cli.output.waiting import print_unreconciled
from ledger.clock import utc_now
from ledger.errors import CapabilityMissing, ConfigurationError, LedgerError, StoreUnavailable
from ledger.model.instants import to_text
from ledger.settings import LEDGER_WAREHOUSE
from ledger.warehouse.urls import parse_warehouse_url, recorded_url, without_secrets

if TYPE_CHECKING:
    from ledger.stores.base import Unreconciled
    from ledger.stores.sqlite.replacing import Replaced

COMMANDS: dict[str, click.Command] = {}
_DAY = timedelta(days=1)


@command(
    "restore-backup",
    "ledger restore-backup backups/monday.db",
    "ledger restore-backup backups/monday.db --warehouse bigquery://my-project/ledger --from 2026-11-01",
    into=COMMANDS,
)
@click.argument("backup", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-w",
    "--warehouse",
    "warehouses",
    multiple=True,
    metavar="URL",
    help="Warehouse to reconcile with; may be repeated.  [default: LEDGER_WAREHOUSE, those that the backup or the "
    "replaced file has shipped to, and those that the replaced file is not reconciled with]",
)
@click.option(
    "--from",
    "first",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DAY",
    help="First day of creation of the sessions to reconcile, in UTC.  [default: the day of the first session in the "
    "backup or the replaced file; all days if that one cannot be read]",
)
@click.option("--no-reconcile", is_flag=True, help="Do not reconcile. Do it before anything is appended.")
def restore_backup(
    as_json: bool,
    url: str | None,
    backup: Path,
    warehouses: tuple[str, ...],
    first: datetime | None,
    no_reconcile: bool,
) -> None:
    """Put a backup in the place of the ledger, and bring back from the warehouse what the backup lacks.

    Stop every program that uses the ledger first; the command refuses while one has it open. The backup is copied and
    verified before anything is changed, and the former file is kept beside the ledger. Sessions that were deleted or
    purged there since the backup are deleted or purged again. Then `ledger reconcile --repair`
    is done with each warehouse, over all days of the ledger. Until that has been done, `ledger status` and
    `ledger doctor` say so, and appends warn. The exit code is 1 if differences remain, and 21 if a warehouse cannot be
    reached: the others are reconciled, and the error has the commands that are left to type.
    """
    path = _path(url)
    from ledger.stores.sqlite.replacing import replace_by_backup

    own = LEDGER_WAREHOUSE.text()
    given = {recorded_url(parse_warehouse_url(each)): each for each in warehouses or ([] if own is None else [own])}
    with progress("Verifying the backup") as advance:
        replaced = replace_by_backup(
            path,
            backup,
            warehouses=given,
            created_from=None if first is None else first.replace(tzinfo=UTC),
            progress=advance,
        )
    if not as_json:
        _print(replaced, backup)
    targets = [each for each in replaced.unreconciled if not warehouses or each.warehouse in given]
    tried = [] if no_reconcile else [_reconcile(path, each, given.get(each.warehouse)) for each in targets]
    outcomes = [each for each in tried if not isinstance(each, _Failure)]
    failures = [each for each in tried if isinstance(each, _Failure)]
    left = _unreconciled(path) if tried else replaced.unreconciled
    again, still = _delete_again(path, replaced.deleted, is_complete=not left)
    to_purge = _to_purge(path)
    if as_json:
        print_json(
            {
                "path": str(replaced.path),
                "former": None if replaced.former is None else str(replaced.former),
                "sessions": replaced.sessions,
                "events": replaced.events,
                "last_recorded": replaced.last_recorded,
                "reconciled": [each.document() for each in outcomes],
                "unreconciled": [each._asdict() for each in left],
                "deletions_known": replaced.former_read,
                "purged_again": list(replaced.purged),
                "deleted_again": again,
                "to_delete_again": still,
                "to_purge_in": to_purge,
            }
        )
    else:
        for each in outcomes:
            each.print()
        if not failures:
            print_unreconciled(path, left)
        if not replaced.unreconciled:
            click.echo("There is no warehouse to bring back events from that were recorded after the backup.")
        _print_deletions(replaced, again, still, to_purge)
    if failures:
        raise _not_reconciled(failures, left) from failures[0].error
    if any(each.left for each in outcomes):
        raise click.exceptions.Exit(DIFFERS)


def _path(url: str | None) -> Path:
    from ledger.sdk.opening import DEFAULT_URL
    from ledger.stores.urls import SqliteFile, parse_url

    file = parse_url(url or DEFAULT_URL)
    if not isinstance(file, SqliteFile):
        raise CapabilityMissing(
            "A ledger in BigQuery has no backups; see time travel and fail-safe in BigQuery's manual."
        )
    if file.read_only:
        raise ConfigurationError("The ledger's URL says mode=ro, so it cannot be replaced; use its URL without that.")
    return file.path


class _Failure(NamedTuple):
    """A warehouse that the ledger could not be reconciled with, and why."""

    mark: Unreconciled
    error: LedgerError


def _reconcile(path: Path, lacking: Unreconciled, warehouse: str | None) -> Outcome | _Failure:
    """Reconcile the ledger with a warehouse.

    Args:
        path: The ledger.
        lacking: The mark for the warehouse.
        warehouse: The URL by which the user named the warehouse; None for the recorded one.
    """
    until = utc_now().replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
    since = min(lacking.created_from, until - _DAY)
    try:
        with opened(f"sqlite:///{path}") as ledger:
            return compare(ledger, warehouse or lacking.warehouse, since, until, and_later=True, repair=True)
    except LedgerError as error:
        return _Failure(lacking, error)


def _not_reconciled(failures: Sequence[_Failure], left: Sequence[Unreconciled]) -> StoreUnavailable:
    """Return the error for warehouses that the ledger could not be reconciled with.

    Args:
        failures: What failed, at least one.
        left: All marks that the ledger has now.
    """
    from ledger.stores.sqlite.unreconciled import command_for

    failed = " ".join(f"{without_secrets(each.mark.warehouse)}: {each.error}" for each in failures)
    outstanding = {each.warehouse: each for each in (*(each.mark for each in failures), *left)}
    return StoreUnavailable(
        f"The backup is in place, but is not reconciled with {failed} Before any program is started, type: "
        f"{'; '.join(map(command_for, outstanding.values()))}"
    )


def _unreconciled(path: Path) -> Sequence[Unreconciled]:
    from ledger.tiers.opening import require_outbox

    with opened(f"sqlite:///{path}") as ledger:
        return require_outbox(ledger.store).unreconciled()


def _delete_again(path: Path, deleted: Sequence[tuple[str, str]], *, is_complete: bool) -> tuple[list[str], list[str]]:
    """Delete the sessions that were deleted in the former file, and are not in the ledger now.

    A session whose deletion the ledger has was restored since, and is left.

    Args:
        path: The ledger.
        deleted: The sessions that are deleted in the former file, each with the id of the event that deleted it.
        is_complete: True if the ledger is reconciled with every warehouse. Otherwise nothing is deleted: an append to a
            session without its latest events would give it two histories.

    Returns:
        The ids of the sessions that were deleted now, and of those that must still be deleted.
    """
    if not deleted:
        return [], []
    with opened(f"sqlite:///{path}") as ledger:
        back = [
            session_id
            for session_id, event_id in deleted
            if (found := ledger.get_session(session_id)) is not None
            and found.recorded_status != "deleted"
            and ledger.store.version_of(session_id, event_id) is None
        ]
        if not is_complete:
            return [], back
        for each in back:
            ledger.delete_session(each)
        return back, []


def _to_purge(path: Path) -> list[str]:
    """Return the URLs of the warehouses in which purged sessions must still be deleted."""
    from ledger.stores.base import purging_store

    with opened(f"sqlite:///{path}") as ledger:
        purging = purging_store(ledger.store)
        waiting = [] if purging is None else purging.waiting()
    return sorted({each.warehouse for each in waiting if each.status == "purged"})


def _print_deletions(replaced: Replaced, again: Sequence[str], still: Sequence[str], to_purge: Sequence[str]) -> None:
    if not replaced.former_read:
        click.echo("No former file could be read, so deletions since the backup are lost: delete those sessions again.")
    for ids, what in (
        (replaced.purged, "purged since the backup, purged again"),
        (again, "deleted since the backup, deleted again"),
        (still, "deleted since the backup and are back; once reconciled, type `ledger delete` for each"),
    ):
        if ids:
            click.echo(safe(f"{counted(len(ids), 'session')} {what}: {', '.join(ids)}"))
    if to_purge:
        commands = "; ".join(f"ledger maintain --warehouse {shlex.quote(each)}" for each in to_purge)
        click.echo(safe(f"Purged sessions must still be deleted in a warehouse. Now type: {commands}"))


def _print(replaced: Replaced, backup: Path) -> None:
    recorded = "" if replaced.last_recorded is None else f", the last recorded at {to_text(replaced.last_recorded)}"
    click.echo(
        safe(
            f"{replaced.path} is {backup}: {counted(replaced.sessions, 'session')} and "
            f"{counted(replaced.events, 'event')} verified{recorded}."
        )
    )
    if replaced.former is not None:
        click.echo(safe(f"The former file is {replaced.former}."))
