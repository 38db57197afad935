"""``ledger doctor --deep``: ask for consent, run the deep checks, and print or write their results."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import counted
from ledger.errors import InvalidInput
from ledger.extras import require_extra
from ledger.files import whole_path
from ledger.stores.urls import parse_url
from ledger.warehouse.bigquery.settings import Dataset, emulator

if TYPE_CHECKING:
    from ledger.cli.doctor.deep.examination import Examination

_STATUSES = {"as assumed": "ok", "differs": "problem", "could not be told": "note"}


def run(
    url: str | None,
    warehouse: str | None,
    environment: Mapping[str, str],
    *,
    consent: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Run the deep checks, and exit with 1 if BigQuery differs from what the code assumes.

    Args:
        url: URL of the ledger.
        warehouse: URL of the warehouse, used if the ledger is not in BigQuery.
        environment: Environment variables.
        consent: True to run the checks without asking.
        output: File for the report, which must not exist.
        as_json: True to print JSON.

    Raises:
        InvalidInput: Neither URL is a dataset's, or nobody can be asked.
        OSError: The file exists, or cannot be written.
        LedgerError: The scratch dataset cannot be created.
    """
    dataset = _dataset(url, warehouse)
    require_extra("bigquery")
    from ledger.cli.doctor.deep.examination import examine, report

    if not consent:
        _ask(dataset, environment)
    with ExitStack() as stack:
        # The file is made first, so that a wrong path costs nothing. It is a new one, so no file of a ledger.
        part = None if output is None else stack.enter_context(whole_path(output, replace=False))
        examination = examine(
            dataset,
            environment,
            began=lambda check: click.echo(f"{check.name} ...", err=True),
            kept=lambda message: click.echo(message, err=True),
        )
        if part is not None:
            part.write_text(report(examination), encoding="utf-8")
    _show(examination, as_json=as_json)
    if examination.differs:
        raise click.exceptions.Exit(1)


def _dataset(url: str | None, warehouse: str | None) -> Dataset:
    for each in (url, warehouse):
        if each is not None and each.startswith("bigquery://"):
            parsed = parse_url(each)
            if isinstance(parsed, Dataset):
                return parsed
    raise InvalidInput(
        "The deep checks examine BigQuery, and neither the ledger nor its warehouse is there: pass --url or "
        "--warehouse bigquery://PROJECT/DATASET."
    )


def _ask(dataset: Dataset, environment: Mapping[str, str]) -> None:
    """Ask for consent on the terminal.

    Raises:
        InvalidInput: There is no terminal.
        click.exceptions.Exit: The answer is no.
    """
    from ledger.cli.doctor.deep.examination import CHECKS, price

    cost = price() if emulator(environment) is None else "nothing, on an emulator"
    plan = (
        f"{len(CHECKS)} checks in a new dataset beside {dataset.url}, which is removed at the end. They take some "
        f"minutes and cost {cost}."
    )
    if not sys.stdin.isatty():
        raise InvalidInput(f"{plan} There is no terminal to ask on: pass --yes to agree.")
    if not click.confirm(f"{plan} Continue?", err=True):
        click.echo("Nothing was done.", err=True)
        raise click.exceptions.Exit(1)


def _show(examination: Examination, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "as_assumed": not examination.differs,
                "emulator": examination.on_emulator,
                "location": examination.location,
                "statements": examination.statements,
                "bytes_billed": examination.bytes_billed,
                "checks": [
                    {
                        "name": check.name,
                        "outcome": observed.outcome,
                        "observed": observed.detail,
                        "assumed": check.assumed,
                        "module": check.module,
                        "source": check.source,
                    }
                    for check, observed in examination.results
                ],
            }
        )
        return
    from ledger.cli.doctor.deep.check import DIFFERS
    from ledger.cli.output.render import findings_table

    findings_table(
        (check.name, _STATUSES[observed.outcome], f"{observed.outcome}: {observed.detail}", "")
        for check, observed in examination.results
    )
    if examination.on_emulator and examination.differs:
        differing = sum(observed.outcome == DIFFERS for _, observed in examination.results)
        click.echo(f"An emulator differs from BigQuery in {counted(differing, 'check')}; that is expected.")
