"""``ledger demo``: record a session, show what the SDK returns, and compare that with what GoogleSQL returns."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ledger.cli.app import command, opened
from ledger.cli.demo.queries import AT_VERSION, CALLS, LATEST, Check
from ledger.cli.output.progress import progress
from ledger.cli.output.shapes import print_json
from ledger.errors import LedgerError, MissingExtra
from ledger.extras import require_extra

if TYPE_CHECKING:
    from ledger.model.session import Session
    from ledger.sdk.ledger import SessionLedger
    from ledger.warehouse.answer import Answer

COMMANDS: dict[str, click.Command] = {}
#: If the emulator does not answer, calls are retried for this many seconds.
RETRY_TIMEOUT = 10.0


@command("demo", "ledger demo", "ledger --url sqlite:///demo.db demo", "ledger demo --emulator", into=COMMANDS)
@click.option(
    "--emulator",
    is_flag=True,
    help="Use BigQuery's emulator: the one at BIGQUERY_EMULATOR_HOST, or else a temporary one.",
)
def demo(as_json: bool, url: str | None, emulator: bool) -> None:
    """Record a session, and show its state, history, versions, differences and SQL.

    The demo uses a temporary ledger and ignores LEDGER_URL; pass --url to keep the session. With --emulator it uses
    Google's client and a temporary dataset in an emulator. If a package for SQL is missing, the demo prints how to
    install it.
    """
    with _open_ledger(url, emulator) as ledger:
        from ledger.cli.commands.warehouse import shipping
        from ledger.cli.demo import scenario
        from ledger.sdk.queries import warehouse_of

        session_id = scenario.record(ledger)
        events = ledger.history(session_id)
        states = [
            state for event in events if (state := ledger.get_session(session_id, version=event.version)) is not None
        ]
        latest = states[-1]
        differences = ledger.diff(session_id, 5)
        checks: list[Check] = []
        answers: tuple[Answer, Answer] | str
        try:
            with warehouse_of(ledger, shipping) as warehouse:
                parameters = {"id": session_id, "created_at": latest.created_at}
                wide, versions, calls = (warehouse.query(sql, parameters) for sql in (LATEST, AT_VERSION, CALLS))
        except MissingExtra as error:
            answers = str(error)
        else:
            answers = versions, calls
            checks += [
                Check("the latest state, all columns", list(wide) == [dict(latest)]),
                Check("the state at each of its versions", _versions(states) == list(versions)),
                Check("the tool calls", _calls(latest) == list(calls)),
            ]
        if as_json:
            print_json(
                {
                    "session": latest.to_dict(),
                    "events": [event.to_dict() for event in events],
                    "differences": [difference.to_dict() for difference in differences],
                    "checks": [{"what": check.what, "same": check.same} for check in checks],
                    "not_checked": answers if isinstance(answers, str) else None,
                }
            )
        else:
            from ledger.cli.demo.page import show

            show(ledger, states, events, differences, answers, checks)
    if not all(check.same for check in checks):
        raise click.exceptions.Exit(1)


@contextmanager
def _open_ledger(url: str | None, emulator: bool) -> Iterator[SessionLedger]:
    """Open a ledger for the block of a ``with`` statement: the one at --url, or else a temporary ledger.

    LEDGER_URL is ignored. The temporary ledger is a SQLite file or, with --emulator, a dataset in BigQuery's emulator.
    """
    context = click.get_current_context()
    explicit = any(
        each.get_parameter_source("url") is ParameterSource.COMMANDLINE for each in (context, context.find_root())
    )
    if url is not None and explicit:
        if emulator:
            raise click.UsageError("Pass --emulator or --url, not both.", context)
        with opened(url, create=True) as ledger:
            yield ledger
    elif emulator:
        require_extra("bigquery")
        from ledger.cli.demo.emulator import configured

        with ExitStack() as stack:
            with progress("Starting BigQuery's emulator"):
                stack.enter_context(configured())
            yield stack.enter_context(_temporary_dataset())
    else:
        with tempfile.TemporaryDirectory(prefix="ledger-demo-") as folder:
            path = Path(folder) / "demo.db"
            with opened(f"sqlite:///{path}", create=True) as ledger:
                yield ledger


@contextmanager
def _temporary_dataset() -> Iterator[SessionLedger]:
    """Open a ledger in a new dataset of the emulator for the block of a ``with`` statement, then drop the dataset."""
    from ledger.cli.commands.dataset import create, drop
    from ledger.cli.demo.emulator import PROJECT
    from ledger.settings import GOOGLE_CLOUD_PROJECT
    from ledger.warehouse.bigquery.settings import Dataset
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    dataset = Dataset(GOOGLE_CLOUD_PROJECT.text() or PROJECT, f"ledger_demo_{uuid.uuid4().hex[:12]}")
    with closing(BigQueryWarehouse(replace(dataset, retry_timeout=RETRY_TIMEOUT))) as warehouse:
        try:
            with progress("Creating tables and views"):
                create(warehouse)
            with opened(dataset.url) as ledger:
                yield ledger
        except BaseException:
            with suppress(LedgerError):  # report the first error
                drop(warehouse)
            raise
        drop(warehouse)


def _versions(states: Sequence[Session]) -> list[dict[str, Any]]:
    """Return states as rows. If SQL and the SDK agree, the query ``AT_VERSION`` gives the same rows."""
    return [
        {
            "version": state.version,
            "status": state.status,
            "has_summary": state.summary is not None,
            "tool_call_status": state.tool_call_status,
        }
        for state in states
    ]


def _calls(session: Session) -> list[dict[str, Any]]:
    """Return the tool calls of a session as rows. If SQL and the SDK agree, the query ``CALLS`` gives the same rows."""
    return [
        {"call_id": call.call_id, "status": call.status, "peak_orders": str(call.result["data"][1]["total_orders"])}
        for call in session.calls
    ]
