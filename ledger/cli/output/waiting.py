"""What waits for a warehouse, as text and as JSON: the retention of sessions, and a restored ledger."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from ledger.cli.output.text import counted, safe
from ledger.stores.base import ArchivedElsewhere, Unreconciled, Waiting

#: Maximum number of sessions that are printed for each warehouse and reason.
_SHOWN = 20
#: What is said of the sessions of a warehouse, by ``Waiting.waits_for``, and what to do about it.
_REASONS = {
    "shipping": ("rows not shipped to {url}", "ledger sync --warehouse {argument}", True),
    "redrive": ("rows refused by {url}", "ledger relay dead-letters --warehouse {argument}", False),
    "dropping": ("rows shipped to {url} and not dropped yet", "ledger maintain --warehouse {argument}", False),
    "deletion": ("purged, and not deleted in {url} yet", "ledger maintain --warehouse {argument}", True),
}


def waiting_objects(sessions: Iterable[Waiting]) -> list[dict[str, Any]]:
    """Return sessions that wait for a warehouse as JSON objects."""
    return [each._asdict() for each in sessions]


def print_unreconciled(path: Path, found: Sequence[Unreconciled]) -> None:
    """Print with which warehouses a restored ledger is not reconciled, and what to do; nothing if there are none."""
    from ledger.stores.sqlite.unreconciled import remedy, said

    if found:
        click.echo(safe(f"{said(path, found)}. {remedy(found)}"))


def print_elsewhere(found: Sequence[ArchivedElsewhere], warehouse: str) -> None:
    """Print which archived sessions are only in other warehouses than this one, and what to do; nothing if none are."""
    from ledger.tiers.elsewhere import said_of

    for said, remedy, session_ids in said_of(found, warehouse):
        click.echo(safe(f"{said} {remedy}"))
        print_some(session_ids)


def print_some(lines: Sequence[str]) -> None:
    """Print the first of several lines, indented, and how many more there are."""
    for line in lines[:_SHOWN]:
        click.echo(safe(f"  {line}"))
    if len(lines) > _SHOWN:
        click.echo(f"  and {len(lines) - _SHOWN:,} more; --json lists all")


def print_waiting(sessions: Sequence[Waiting]) -> None:
    """Print which session waits for which warehouse, for what and since when, and what to do."""
    from ledger.cli.output.render import when

    def group(session: Waiting) -> tuple[str, str]:
        return session.warehouse, session.waits_for

    for (warehouse, waits_for), grouped in groupby(sorted(sessions, key=group), key=group):
        of_group = sorted(grouped, key=lambda each: (each.since is not None, each.since, each.session_id))
        said, remedy, forgettable = _REASONS[waits_for]
        argument = shlex.quote(warehouse)
        forget = f"; if it is gone: ledger warehouse forget {argument}" if forgettable else ""
        click.echo(safe(f"{counted(len(of_group), 'session')}: {said.format(url=warehouse)}."))
        click.echo(safe(f"  run: {remedy.format(argument=argument)}{forget}"))
        lines = []
        for each in of_group:
            since = "by an earlier release" if each.since is None else f"since {when(each.since)}"
            lines.append(f"{each.session_id}  {each.status}  {since}")
        print_some(lines)
