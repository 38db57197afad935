"""``ledger prices``: the price list of language models, from which views work out what calls cost."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import click

from ledger.cli.app import command, opened
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import counted, safe
from ledger.errors import InvalidInput
from ledger.files import whole_file

COMMANDS: dict[str, click.Command] = {}
_ACTIONS = ("list", "import", "export", "missing")


@command(
    "prices",
    "ledger prices import prices.csv",
    "ledger prices missing --from 2026-11-01 --to 2026-11-30",
    "ledger prices export --output prices.csv",
    into=COMMANDS,
)
@click.argument("action", metavar="[list|import|export|missing]", type=click.Choice(_ACTIONS), default="list")
@click.argument("source", metavar="[FILE]", type=click.File("rb"), required=False)
@click.option("--replace", is_flag=True, help="import: remove all other prices.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="export: file to write; it appears or is replaced once it is complete.  [default: stdout]",
)
@click.option("--from", "first_day", metavar="DAY", help="missing: the first day.  [default: 6 days before the last]")
@click.option("--to", "last_day", metavar="DAY", help="missing: the last day.  [default: today]")
def prices(
    as_json: bool,
    url: str | None,
    action: str,
    source: IO[bytes] | None,
    replace: bool,
    output: Path | None,
    first_day: str | None,
    last_day: str | None,
) -> None:
    """List, import or export the prices of language models, or list the models that lack one.

    The views work out the price of each model call that was recorded without one: input, cached input and output tokens
    at the prices of the day of the call. Their column cost_source says recorded or estimated. No event is changed.

    FILE is CSV with the columns model, valid_from (a day), input_usd_per_million and output_usd_per_million, and may
    have provider and cached_input_usd_per_million. A price holds until the next day of the same provider and model. A
    price without a provider holds for all that have none of their own. Lines are added to the list; a line with the
    same provider, model and day replaces the earlier one.
    """
    _check(action, source, replace=replace, output=output, days=(first_day, last_day))
    if action == "import":
        assert source is not None  # noqa: S101 - _check requires it
        _import(url, source, replace=replace, as_json=as_json)
    elif action == "missing":
        _missing(url, first_day, last_day, as_json=as_json)
    elif action == "export":
        _export(url, output, as_json=as_json)
    else:
        _list(url, as_json=as_json)


def _check(action: str, source: object, *, replace: bool, output: object, days: tuple[str | None, str | None]) -> None:
    """Raise UsageError if an argument or an option is missing, or is of another action."""
    context = click.get_current_context()
    if (source is not None) != (action == "import"):
        raise click.UsageError("`import` takes a FILE, and no other action does.", context)
    if replace and action != "import":
        raise click.UsageError("--replace is of `ledger prices import`.", context)
    if output is not None and action != "export":
        raise click.UsageError("--output is of `ledger prices export`.", context)
    if any(days) and action != "missing":
        raise click.UsageError("--from and --to are of `ledger prices missing`.", context)


def _import(url: str | None, source: IO[bytes], *, replace: bool, as_json: bool) -> None:
    from ledger.formats.prices_csv import read_prices

    found = read_prices(source.read())
    if not found and not replace:
        raise InvalidInput("The file has no prices; nothing was imported.")
    with opened(url) as ledger:
        ledger.import_model_prices(found, replace=replace)
        total = len(ledger.model_prices())
    if as_json:
        print_json({"imported": len(found), "prices": total})
    else:
        click.echo(f"{counted(len(found), 'price')} imported; the list has {counted(total, 'price')}.")


def _list(url: str | None, *, as_json: bool) -> None:
    from ledger.cli.output.tables import emit, rows_table
    from ledger.formats.prices_csv import COLUMNS

    with opened(url) as ledger:
        found = ledger.model_prices()
    rows = [tuple(getattr(price, name) for name in COLUMNS) for price in found]
    if as_json:
        print_json({"prices": [dict(zip(COLUMNS, row, strict=True)) for row in rows]})
    elif found:
        emit(rows_table(COLUMNS, rows))
    else:
        click.echo("There are no prices; add some with: ledger prices import FILE.csv")


def _export(url: str | None, output: Path | None, *, as_json: bool) -> None:
    from ledger.formats.prices_csv import csv_of
    from ledger.settings import LEDGER_WAREHOUSE
    from ledger.tiers.opening import check_output

    if as_json and output is None:
        raise click.UsageError("The export itself is CSV; --json requires --output.", click.get_current_context())
    with opened(url) as ledger:
        found = ledger.model_prices()
        if output is None:
            click.echo(safe(csv_of(found)), nl=False)  # names have no control characters; an encoding may lack some
            return
        check_output(ledger.store, output, LEDGER_WAREHOUSE.text())
        with whole_file(output) as file:
            file.write(csv_of(found).encode())
    if as_json:
        print_json({"prices": len(found)})
    else:
        click.echo(f"{counted(len(found), 'price')} exported.", err=True)


def _missing(url: str | None, first_day: str | None, last_day: str | None, *, as_json: bool) -> None:
    from ledger.analytics import Analytics
    from ledger.cli.output.tables import emit, rows_table

    with opened(url) as ledger:
        answer = Analytics(ledger).unpriced_models(first_day, last_day)
    if as_json:
        print_json({"models": list(answer)})
    elif answer.rows:
        emit(rows_table(answer.columns, answer.rows))
    else:
        click.echo("Every model call of these days has a price.")
