"""The command that writes reports as HTML pages: of a period, or of one session."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.warehouse import shipping
from ledger.cli.days import chosen_days, with_days
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import safe
from ledger.cli.session_ids import SESSION
from ledger.files import whole_file
from ledger.settings import LEDGER_WAREHOUSE

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger

COMMANDS: dict[str, click.Command] = {}


@command(
    "report",
    "ledger report --out report.html",
    "ledger report --since 2026-11-01 --until 2026-12-01 --out november.html",
    "ledger report --session SESSION_ID --out session.html",
    "ledger report --session @ --out newest.html",
    into=COMMANDS,
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    required=True,
    help="HTML file to write. It is replaced once it is complete. Only its owner may read a new file.",
)
@with_days
@click.option("--session", "session_id", type=SESSION, metavar="SESSION_ID", help="Report this session, not days.")
def report(
    as_json: bool,
    url: str | None,
    out: Path,
    since: date | None,
    until: date | None,
    days: int | None,
    session_id: str | None,
) -> None:
    """Write the last days, or one session, as one HTML page to send and to keep.

    The page of days has key numbers beside those of the period before, charts, and their numbers as tables. The page of
    a session has the conversation with tool calls and results, errors, model calls with cost, and each version. A page
    loads nothing from elsewhere and runs no script. What is left out is told on it.
    """
    from ledger.tiers.opening import check_output

    if session_id is not None and (since or until or days):
        raise click.UsageError(
            "--session reports a whole session; leave out --since, --until and --days.", click.get_current_context()
        )
    with opened(url) as ledger:
        check_output(ledger.store, out, LEDGER_WAREHOUSE.text())
        if session_id is None:
            text, about = _of_days(ledger, since, until, days)
        else:
            text, about = _of_session(ledger, session_id)
        content = text.encode()
        with whole_file(out, private=True) as file:
            file.write(content)
    if as_json:
        print_json({"file": str(out), **about, "bytes": len(content)})
    else:
        said = f"session {session_id}" if session_id is not None else f"{about['first_day']} to {about['last_day']}"
        click.echo(f"{safe(str(out))}: {safe(said)}, {len(content):,} bytes.", err=True)


def _of_days(
    ledger: SessionLedger, since: date | None, until: date | None, days: int | None
) -> tuple[str, dict[str, Any]]:
    """Return the page of a period, and which days it is about."""
    from ledger.analytics.questions import Analytics
    from ledger.analytics.report import report_page
    from ledger.extras import require_extra
    from ledger.sdk.queries import warehouse_of

    require_extra("charts")
    analytics = Analytics(ledger)
    first, last = chosen_days(analytics, since, until, days)
    with warehouse_of(ledger, shipping):
        page = report_page(analytics, first, last, made_at=datetime.now(UTC))
    return page, {"first_day": first, "last_day": last}


def _of_session(ledger: SessionLedger, session_id: str) -> tuple[str, dict[str, Any]]:
    """Return the page of a session, and its id."""
    from ledger.analytics.session_page import session_page

    return session_page(ledger, session_id), {"session_id": session_id}
