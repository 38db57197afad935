"""Write the tables of docs/cost.md: what events, look-ups and dashboards cost in BigQuery.

They are worked out from the list prices in ``ledger/warehouse/bigquery/list_prices.py`` and from the figures below,
which tests/docs/test_cost.py compares with the benchmarks and with the model of what is billed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from ledger.files import whole_file
from ledger.warehouse.bigquery import list_prices as prices

#: Mean logical bytes of an event's row, over the events that benchmarks/views.py generates.
EVENT_BYTES = 532
#: MB billed for one operation by the model of ``make billed``: in a dataset of 365 days with 500 MB a day and 100 MB in
#: the streaming buffer, and in one with 10 MB a day and 5 MB in the buffer.
BILLED = {
    "one look-up by id": (161, 15),
    "one page of 50 sessions, of the last day": (1_641, 39),
    "one page of 50 sessions, of every second day": (77_005, 1_554),
    "daily_activity of 7 days": (7_373, 161),
    "tool_usage of 7 days": (7_373, 161),
    "model_usage of 7 days": (7_373, 161),
    "session_metrics of 7 days": (3_498, 83),
    "one strict append": (131, 80),
    "one start of a relay": (60, 60),
    "one deletion of 500 sessions of 30 days": (17_594, 486),
}
#: Readings of a dashboard in a day, and days of a month.
READINGS, MONTH_DAYS = 24, 30
DASHBOARD = ("daily_activity of 7 days", "tool_usage of 7 days", "model_usage of 7 days", "session_metrics of 7 days")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "cost.md"
_MB = 2**20
_MILLION = 1_000_000
_TABLE = re.compile(r"(?<=<!-- table: )(\w+)( -->\n)(?:.*?)(?=<!-- end -->)", re.DOTALL)


def list_prices() -> str:
    """Return the table of list prices."""
    return table(
        (f"{prices.LOCATION}, {prices.AS_OF}", "Price", "Free each month"),
        [
            ("queries on demand", f"${prices.QUERY_USD_PER_TIB} a TiB", f"{prices.FREE_QUERY_TIB:g} TiB"),
            ("Storage Write API", f"${prices.WRITE_USD_PER_GIB} a GiB", f"{prices.FREE_WRITE_TIB:g} TiB"),
            ("insertAll, at least 1 KiB a row", f"${prices.INSERT_USD_PER_200_MIB} for 200 MiB", "nothing"),
            ("storage", f"${prices.ACTIVE_USD_PER_GIB} a GiB and month", f"{prices.FREE_STORAGE_GIB:g} GiB"),
            ("storage, unchanged for 90 days", f"${prices.LONG_TERM_USD_PER_GIB} a GiB and month", "as above"),
        ],
    )


def events() -> str:
    """Return the table of what a million events cost."""
    size = EVENT_BYTES * _MILLION
    gib = size / prices.GIB
    row = max(EVENT_BYTES, prices.INSERT_LEAST_ROW_BYTES)
    by_insert = row * _MILLION / (200 * _MB) * prices.INSERT_USD_PER_200_MIB
    strict = prices.query_usd(BILLED["one strict append"][1] * _MB * _MILLION)
    year = 3 * prices.storage_usd(size, 0) + 9 * prices.storage_usd(0, size)
    return table(
        (f"A million events of {EVENT_BYTES} bytes, {gib:.2f} GiB", "Price"),
        [
            ("appending, by the Storage Write API", usd(gib * prices.WRITE_USD_PER_GIB)),
            ("appending, by insertAll", usd(by_insert)),
            ("appending to strict sessions, each by itself, in the small dataset below", usd(strict)),
            ("storing for a month", usd(prices.storage_usd(size, 0))),
            ("storing for a month, once unchanged for 90 days", usd(prices.storage_usd(0, size))),
            ("storing for a year", usd(year)),
        ],
    )


def operations() -> str:
    """Return the table of what operations cost."""
    return table(
        ("Operation", "Large dataset: MB billed", "price", "Small dataset: MB billed", "price"),
        [
            (name, f"{large:,}", usd(prices.query_usd(large * _MB)), f"{small:,}", usd(prices.query_usd(small * _MB)))
            for name, (large, small) in BILLED.items()
        ],
    )


def dashboards() -> str:
    """Return the table of what a dashboard costs."""
    rows = []
    for place, title in enumerate(("large", "small")):
        once = sum(BILLED[name][place] for name in DASHBOARD)
        day = prices.query_usd(once * _MB * READINGS)
        rows.append((title, f"{once:,}", usd(prices.query_usd(once * _MB)), usd(day), usd(day * MONTH_DAYS)))
    return table(("Dataset", "MB billed for a reading", "a reading", "a day", f"{MONTH_DAYS} days"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "prices": list_prices,
    "events": events,
    "operations": operations,
    "dashboards": dashboards,
}


def usd(amount: float) -> str:
    """Return an amount of US dollars, small ones with more digits."""
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.4f}" if amount >= 0.001 else f"${amount:.6f}"


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    head = list(columns)
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    lines.insert(1, f"|{'---|' * len(head)}")
    return "".join(f"{line}\n" for line in lines)


def page(text: str) -> str:
    """Return the page with its tables as they are to be."""
    return _TABLE.sub(lambda found: f"{found[1]}{found[2]}\n{TABLES[found[1]]()}\n", text)


if __name__ == "__main__":
    written = page(PAGE.read_text(encoding="utf-8"))
    with whole_file(PAGE) as file:
        file.write(written.encode())
