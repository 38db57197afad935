"""Run the deep checks over a scratch dataset, tell what they cost, and write the report."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from ledger.cli.doctor.deep import statements, streams, values
from ledger.cli.doctor.deep.check import DIFFERS, UNKNOWN, Check, Observed, Result
from ledger.cli.doctor.deep.scratch import Scratch, scratch
from ledger.warehouse.bigquery.settings import Dataset

#: All checks, in the order in which they run.
CHECKS: tuple[Check, ...] = (*streams.CHECKS, *values.CHECKS, *statements.CHECKS)
#: Price of a TiB read on demand, in US dollars; locations differ, up to some 9 dollars.
USD_PER_TIB = 6.25
_PACKAGES = ("session-ledger", "google-cloud-bigquery", "google-cloud-bigquery-storage", "pyarrow", "grpcio")


@dataclass(frozen=True, slots=True)
class Examination:
    """The results of the deep checks.

    Attributes:
        results: One for each check, in the order of ``CHECKS``.
        on_emulator: True if an emulator was examined.
        location: Location of the dataset; None if unknown.
        transport: The transport of the dataset's URL.
        statements: Number of statements that were run.
        bytes_billed: What they billed; None if the service does not tell it of any.
    """

    results: Sequence[Result]
    on_emulator: bool
    location: str | None
    transport: str
    statements: int
    bytes_billed: int | None

    @property
    def differs(self) -> bool:
        """True if a check observed something else than the code assumes."""
        return any(result.observed.outcome == DIFFERS for result in self.results)


def examine(
    beside: Dataset,
    environment: Mapping[str, str],
    *,
    checks: Sequence[Check] = CHECKS,
    began: Callable[[Check], None] = lambda check: None,
    kept: Callable[[str], None],
    **times: Any,
) -> Examination:
    """Run checks in a scratch dataset beside another one, which is not touched.

    Args:
        beside: The dataset whose project, location and transport are used.
        environment: Environment variables.
        checks: The checks to run.
        began: Called before each check.
        kept: Called with a message if the scratch dataset could not be removed.
        times: As for ``Scratch``.

    Raises:
        LedgerError: The scratch dataset cannot be created.
    """
    with scratch(beside, environment, kept=kept, **times) as it:
        results = []
        for check in checks:
            began(check)
            results.append(Result(check, _observed(check, it)))
        jobs = list(it.warehouse.jobs)
        billed = [count for job in jobs if (count := it.warehouse.bytes_billed(job)) is not None]
        return Examination(
            results,
            on_emulator=it.warehouse.clients.emulator is not None,
            location=it.location,
            transport=beside.transport,
            statements=len(jobs),
            bytes_billed=sum(billed) if billed else None,
        )


def price(checks: Iterable[Check] = CHECKS) -> str:
    """Return what checks read at most, and what that costs on demand, as text."""
    megabytes = sum(check.megabytes for check in checks)
    dollars = megabytes * 1e6 / 2**40 * USD_PER_TIB
    cost = "less than 1 US cent" if dollars < 0.01 else f"about {dollars * 100:.0f} US cents"
    return f"{cost} on demand (up to {megabytes:,} MB of statements)"


def report(examination: Examination) -> str:
    """Return the results in Markdown, without names of projects, datasets and accounts."""
    where = "an emulator" if examination.on_emulator else "BigQuery"
    billed = "an unknown number of" if examination.bytes_billed is None else f"{examination.bytes_billed / 1e6:,.1f}"
    lines = [
        f"### `ledger doctor --deep` on {where}",
        "",
        f"- {', '.join(_versions())}; Python {platform.python_version()}",
        f"- location {examination.location or 'unknown'}, transport {examination.transport}",
        f"- {examination.statements} statements, {billed} MB billed",
        "",
        "| Check | Result | Observed |",
        "|---|---|---|",
    ]
    for check, (outcome, detail) in examination.results:
        shown = f"**{outcome}**" if outcome == DIFFERS else outcome
        lines.append(f"| {check.name} | {shown} | {_cell(detail)} |")
    lines += ["", "| Check | Assumed | In | Source |", "|---|---|---|---|"]
    for check, _ in examination.results:
        lines.append(f"| {check.name} | {_cell(check.assumed)} | {check.module} | {_cell(check.source)} |")
    return "\n".join(lines) + "\n"


def _observed(check: Check, it: Scratch) -> Observed:
    try:
        return check.run(it)
    except Exception as error:  # noqa: BLE001 - that a check cannot be made is its result
        return Observed(UNKNOWN, f"{type(error).__name__}: {it.told(error)}")


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _versions() -> list[str]:
    return [f"{package} {metadata.version(package)}" for package in _PACKAGES]
