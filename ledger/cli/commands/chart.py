"""The command that draws charts."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.warehouse import shipping
from ledger.cli.days import chosen_days, with_days
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import counted, safe
from ledger.files import whole_file
from ledger.settings import LEDGER_WAREHOUSE

if TYPE_CHECKING:
    from ledger.analytics.charts import Picture

COMMANDS: dict[str, click.Command] = {}
FORMATS = (".png", ".svg", ".html", ".json")


@command(
    "chart",
    "ledger chart",
    "ledger chart tool_usage --out tools.png",
    "ledger chart outcomes --attribute topic --days 30 --out outcomes.svg",
    into=COMMANDS,
)
@click.argument("name", required=False)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File to write: .png, .svg, .html (a page with the chart and its numbers) or .json (Vega-Lite). It is "
    "replaced once it is complete.",
)
@with_days
@click.option("--attribute", metavar="NAME", help="Only values of this attribute, in charts of attributes.")
@click.option("--scale", type=click.FloatRange(0.5, 8), default=2.0, show_default=True, help="Resolution of a PNG.")
def chart(
    as_json: bool,
    url: str | None,
    name: str | None,
    out: Path | None,
    since: date | None,
    until: date | None,
    days: int | None,
    attribute: str | None,
    scale: float,
) -> None:
    """Draw a chart of the ledger's analytics as PNG, SVG, a web page or Vega-Lite. Without NAME, list the charts.

    Neither a browser nor a network is needed. --json without --out prints the numbers of the chart.
    """
    from ledger.analytics.charts.catalogue import CHARTS, chart_named, draw
    from ledger.analytics.questions import Analytics
    from ledger.extras import require_extra
    from ledger.sdk.queries import warehouse_of
    from ledger.tiers.opening import check_output

    if name is None:
        if out is not None:
            raise click.UsageError("--out needs the NAME of a chart; `ledger chart` lists them.", _context())
        _list_charts(as_json)
        return
    chart_named(name)
    form = "" if out is None else out.suffix.lower()
    if out is None and not as_json:
        raise click.UsageError(f"Name a file with --out: {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.", _context())
    if out is not None and form not in FORMATS:
        raise click.UsageError(f"--out {out.name[:70]!r} ends with none of {', '.join(FORMATS)}.", _context())
    require_extra("charts")
    with opened(url) as ledger:
        if out is not None:
            check_output(ledger.store, out, LEDGER_WAREHOUSE.text())
        analytics = Analytics(ledger)
        first, last = chosen_days(analytics, since, until, days)
        CHARTS[name].check(attribute)
        with warehouse_of(ledger, shipping):
            picture = draw(name, analytics, first, last, attribute=attribute)
        if out is not None:
            content = _content(picture, form, scale)
            with whole_file(out, private=True) as file:
                file.write(content)
    if as_json:
        print_json(
            {
                "name": picture.name,
                "title": picture.title,
                "first_day": first,
                "last_day": last,
                "file": None if out is None else str(out),
                "columns": picture.columns,
                "rows": picture.rows,
            }
        )
    else:
        click.echo(
            f"{safe(str(out))}: {picture.title}, {picture.days.text}; {counted(len(picture.rows), 'row')}.", err=True
        )


def _context() -> click.Context:
    return click.get_current_context()


def _list_charts(as_json: bool) -> None:
    from ledger.analytics.charts.catalogue import CHARTS
    from ledger.cli.output.tables import emit, rows_table

    if as_json:
        print_json({"charts": [{"name": name, "title": chart.title} for name, chart in CHARTS.items()]})
    else:
        emit(rows_table(("chart", "what it shows"), [(name, chart.title) for name, chart in CHARTS.items()]))


def _content(picture: Picture, form: str, scale: float) -> bytes:
    """Return a picture in the format of a file's suffix."""
    from ledger.analytics.charts.inline import chart_page

    if form == ".png":
        return picture.to_png(scale)
    text = {".svg": picture.to_svg, ".html": lambda: chart_page(picture), ".json": picture.to_json}[form]()
    return text.encode()
