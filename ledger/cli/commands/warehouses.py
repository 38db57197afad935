"""The command that lists and forgets the warehouses that a ledger ships to."""

from __future__ import annotations

from dataclasses import asdict

import click

from ledger.cli.app import command, opened
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import counted, safe
from ledger.cli.output.waiting import waiting_objects

COMMANDS: dict[str, click.Command] = {}


@command(
    "warehouse",
    "ledger warehouse list",
    "ledger warehouse forget duckdb:////var/lib/old.duckdb",
    "ledger warehouse moved duckdb:////var/lib/ledger.duckdb duckdb:////srv/app/ledger.duckdb",
    into=COMMANDS,
)
@click.argument("action", metavar="[list|forget|moved]", type=click.Choice(["list", "forget", "moved"]), default="list")
@click.argument("warehouse", metavar="[WAREHOUSE]", required=False)
@click.argument("present", metavar="[NEW]", required=False)
@click.option(
    "--yes",
    is_flag=True,
    help="With forget: even if archived sessions may have their rows only there, or purged sessions are not deleted "
    "there yet.",
)
def warehouse(
    as_json: bool, url: str | None, action: str, warehouse: str | None, present: str | None, yes: bool
) -> None:
    """List the warehouses that the ledger ships to, forget one that is no longer used, or say that one was moved.

    A session is archived or purged only once every warehouse of this list has its rows. A warehouse that nobody ships
    to any more therefore holds up retention: forget it. The warehouse itself is not changed. If rows are shipped to it
    again, it is on the list again.

    A DuckDB file is known by its path. If it was moved, `ledger warehouse moved WAREHOUSE NEW` records its new URL, if
    the file there has every row that was shipped to it.
    """
    if (warehouse is not None, present is not None) != (action != "list", action == "moved"):
        raise click.UsageError(
            "`forget` takes the URL of a warehouse, `moved` its former and its new one, `list` takes none.",
            click.get_current_context(),
        )
    if warehouse is None:
        _list(url, as_json=as_json)
    elif present is None:
        _forget(url, warehouse, even_if_needed=yes, as_json=as_json)
    else:
        _move(url, warehouse, present, as_json=as_json)


def _list(url: str | None, *, as_json: bool) -> None:
    from ledger.stores.base import purging_store
    from ledger.tiers.opening import require_outbox

    with opened(url) as ledger:
        store = require_outbox(ledger.store)
        statuses = [store.outbox(each).status() for each in store.warehouses()]
        purging = purging_store(store)
        waiting = [] if purging is None else purging.waiting()
    if as_json:
        objects = [
            asdict(each) | {"sessions": waiting_objects(it for it in waiting if it.warehouse == each.warehouse)}
            for each in statuses
        ]
        print_json({"warehouses": objects})
        return
    if not statuses:
        click.echo("The ledger ships to no warehouse yet; ship its rows with: ledger sync")
        return
    from ledger.cli.output.render import when
    from ledger.cli.output.tables import emit, rows_table

    columns = ("warehouse", "shipped", "last", "waiting", "refused", "held up")
    rows = [
        (
            each.warehouse,
            counted(each.shipped_rows, "row"),
            "-" if each.shipped_at is None else when(each.shipped_at),
            counted(each.waiting_rows, "row"),
            counted(each.refused_events, "event"),
            counted(sum(it.warehouse == each.warehouse for it in waiting), "session"),
        )
        for each in statuses
    ]
    emit(rows_table(columns, rows))


def _forget(url: str | None, warehouse: str, *, even_if_needed: bool, as_json: bool) -> None:
    from ledger.tiers.opening import require_outbox, sink_of
    from ledger.warehouse.urls import open_warehouse

    with opened(url) as ledger:
        store = require_outbox(ledger.store)
        name = warehouse if warehouse in store.warehouses() else sink_of(open_warehouse(warehouse)).url
        forgotten = store.forget_warehouse(name, even_if_needed=even_if_needed)
    if as_json:
        print_json(forgotten._asdict())
        return
    lost = f"; {counted(forgotten.deletions, 'purged session')} not deleted there" if forgotten.deletions else ""
    waited = counted(forgotten.waiting_rows, "row")
    click.echo(safe(f"Forgot {name}: {waited} waited for it{lost}. No session waits for it any more."))


def _move(url: str | None, former: str, present: str, *, as_json: bool) -> None:
    from ledger.tiers.moved import move_warehouse
    from ledger.tiers.opening import require_outbox

    with opened(url) as ledger:
        name = move_warehouse(require_outbox(ledger.store), former, present)
    if as_json:
        print_json({"former": former, "warehouse": name})
    else:
        click.echo(safe(f"The ledger ships to {name} now, as it did to {former}."))
