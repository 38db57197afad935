"""Checks of ``ledger doctor`` for the warehouses of a ledger in a SQLite file. They change nothing."""

from __future__ import annotations

import os
import shlex
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ledger.cli.doctor.findings import NOTE, OK, PROBLEM, Finding
from ledger.cli.output.text import counted
from ledger.errors import ConfigurationError, LedgerError, StoreUnavailable
from ledger.extras import install_line, missing
from ledger.files import owner_and_mode
from ledger.settings import LEDGER_WAREHOUSE
from ledger.stores.sqlite import holders
from ledger.stores.sqlite.tombstones import WAREHOUSES
from ledger.stores.sqlite.unreconciled import PREFIX
from ledger.tiers.elsewhere import said_of
from ledger.warehouse.duckdb.creation import absence
from ledger.warehouse.urls import duckdb_url, file_beside, parse_warehouse_url, recorded_url

if TYPE_CHECKING:
    from ledger.warehouse.bigquery.settings import Dataset

T = TypeVar("T")
#: Seconds to wait for another process that has a DuckDB file open.
WAIT = 1.0
#: How files begin: a DuckDB file after a checksum of 8 bytes, and a SQLite file.
_DUCKDB, _SQLITE = b"DUCK", b"SQLite format 3\0"
#: What is said of a file whose beginning nobody knows.
_UNKNOWN = "it begins like the file of another program, or its beginning is damaged"
#: Failures after the last batch that arrived, if a row that waited then waits still: a later one may be shipped soon.
_FAILED = (
    "SELECT warehouse, last_error FROM relays WHERE failed_at > IFNULL(shipped_at, 0) "
    "AND failed_at >= (SELECT recorded_at FROM session_events WHERE seq > checkpoint ORDER BY seq LIMIT 1)"
)


def examine_warehouses(path: Path, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Check the warehouse in LEDGER_WAREHOUSE, else the DuckDB file beside the ledger, and those that have its rows.

    Args:
        path: The file of the ledger.
        environment: The environment variables.
    """
    shipped = [each for (each,) in _rows(path, WAREHOUSES)]
    url = LEDGER_WAREHOUSE.text(environment)
    target: Path | Dataset | None = file_beside(path)
    if url is not None:
        try:
            target = parse_warehouse_url(url)
        except ConfigurationError:  # the checks of the settings say so
            target = None
    own = None if target is None else recorded_url(target, environment)
    if url is None and target is None:
        detail = f"{path.name} is the ledger itself, and cannot also be its DuckDB file"
        yield Finding("duckdb", NOTE, detail, "for SQL, set LEDGER_WAREHOUSE to another file")
    if isinstance(target, Path):
        yield examine_duckdb(target, _archived_in(path, own) if own is not None and own in shipped else 0, path)
    elif target is not None:
        yield from (replace(each, what=f"warehouse {each.what}") for each in _dataset(target, environment))
    for each in shipped:
        if each != own:
            yield _other(each, _archived_in(path, each), path, environment)
    if own is not None:
        for said, remedy, _ in said_of(_reading(path, lambda it: holders.elsewhere(it, own), []), own):
            yield Finding("archived", NOTE, said.rstrip("."), remedy.rstrip("."))
    yield from _relays(path)


def examine_duckdb(path: Path, archived: int, ledger: Path) -> Finding:
    """Check a DuckDB file by opening it.

    Args:
        path: The file.
        archived: The number of archived sessions whose rows are in the file, and not in the ledger.
        ledger: The file of the ledger.
    """
    from ledger.tiers.opening import check_file_apart

    try:
        check_file_apart(ledger, path)
        if found := absence(path):
            return _absent(path, archived, ledger, found)
        status = path.stat()
    except ConfigurationError as error:
        return Finding("duckdb", PROBLEM, str(error), "give the warehouse a file of its own")
    except OSError as error:
        remedy = f"correct the URL, or run as a user who may open the folder {path.parent}"
        return Finding("duckdb", PROBLEM, f"{path} cannot be examined: {error.strerror}", remedy)
    foreign = _foreign(path, status)
    if foreign is not None:
        remedy = "correct the warehouse's URL (LEDGER_WAREHOUSE), and leave what it names as it is"
        if foreign == _UNKNOWN:
            remedy += "; if the URL is right, keep the file, and restore a backup of it"
        if archived:
            remedy += f"; the DuckDB file of {counted(archived, 'archived session')} must be put back or restored"
        return Finding("duckdb", PROBLEM, f"{path} is no DuckDB file: {foreign}", remedy)
    if not os.access(path, os.R_OK | os.W_OK):
        detail = f"{path} is not readable and writable; its owner is {owner_and_mode(status)}"
        return Finding("duckdb", PROBLEM, detail, _access(path, status))
    if missing("analytics", "duckdb"):
        return Finding("duckdb", NOTE, f"{path.name} is not opened, since packages are missing")
    from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse

    try:
        rows = DuckDBWarehouse(path, retry_timeout=WAIT).count_rows()
    except StoreUnavailable as error:
        return Finding("duckdb", NOTE, str(error))
    except LedgerError as error:
        return Finding("duckdb", PROBLEM, str(error), _remedy(path, archived))
    return Finding("duckdb", OK, f"{path.name}, {status.st_size:,} bytes, {counted(rows, 'row')}")


def _absent(path: Path, archived: int, ledger: Path, found: str) -> Finding:
    if archived:
        detail = f"{path} {found}, and has the rows of {counted(archived, 'archived session')}"
        alone = _reading(ledger, lambda it: holders.count(it, duckdb_url(path), alone=True), archived)
        if not alone:
            detail += ", which another warehouse has too"
        return Finding("duckdb", PROBLEM, detail, _put_back(path, needed=alone > 0))
    if (PREFIX + duckdb_url(path),) in _rows(ledger, "SELECT name FROM meta"):
        detail = f"{path} {found}, and may have events that this ledger lacks, which was restored from a backup"
        forget = f"ledger warehouse forget {shlex.quote(duckdb_url(path))}"
        return Finding("duckdb", PROBLEM, detail, f"put the file back; if it is lost, give those events up: {forget}")
    if not path.parent.is_dir():
        return Finding("duckdb", PROBLEM, f"there is no directory {path.parent}", "create it, or correct the URL")
    remedy = "it may be removed; `ledger sql` creates it" if path.exists() else "`ledger sql` creates it"
    return Finding("duckdb", NOTE, f"{path.name} {found}", remedy)


def _put_back(path: Path, *, needed: bool) -> str:
    """Return what to do about a missing file; ``needed`` is True if archived sessions have their rows there alone."""
    forget = f"ledger warehouse forget {shlex.quote(duckdb_url(path))}"
    lost = f"if it is lost, give these sessions up: {forget} --yes" if needed else f"if it is lost: {forget}"
    return f"put the file back, or restore it from a backup; if it was moved: {_moved(path)}; {lost}"


def _moved(path: Path) -> str:
    return f"ledger warehouse moved {shlex.quote(duckdb_url(path))} NEW"


def _foreign(path: Path, status: os.stat_result) -> str | None:
    """Return what a file is that is no DuckDB file; None if it is one, or may not be read."""
    if stat.S_ISDIR(status.st_mode):
        return "it is a directory"
    if not stat.S_ISREG(status.st_mode):
        return "it is a device or a pipe"
    try:
        with path.open("rb") as file:
            beginning = file.read(len(_SQLITE))
    except OSError:
        return None
    if beginning[8:12] == _DUCKDB:
        return None
    if beginning == _SQLITE:
        return "it is a SQLite database, perhaps a ledger"
    return _UNKNOWN


def _access(path: Path, status: os.stat_result) -> str:
    """Return what to do about a file that this user may not read and write."""
    if sys.platform == "win32" or status.st_uid == os.geteuid():
        return f"let its owner read and write it: chmod u+rw '{path}'; a read-only disk must be mounted for writing"
    owner = owner_and_mode(status).partition(",")[0]
    return f"ask {owner}, to whom the file belongs, for access to it, or run the command as {owner}; keep the file"


def _remedy(path: Path, archived: int) -> str:
    if archived:
        return (
            f"keep the file: {counted(archived, 'archived session')} may be in it alone. Mend what the message says, "
            "such as the installed DuckDB, or restore a backup of it"
        )
    return (
        f"mend what the message says; or move the file away and keep it: `ledger sql` creates '{path}' again from "
        "this ledger. As it cannot be read, nobody knows whether sessions of another ledger are archived in it alone"
    )


def _other(url: str, archived: int, ledger: Path, environment: Mapping[str, str]) -> Finding:
    """Check a warehouse that has rows of the ledger and is not the one that is set."""
    try:
        target = parse_warehouse_url(url)
    except ConfigurationError as error:
        return Finding("also shipped to", NOTE, str(error))
    if isinstance(target, Path):
        findings = [examine_duckdb(target, archived, ledger)]
    else:
        findings = list(_dataset(target, environment))
    wrong = next((each for each in findings if each.status == PROBLEM), None)
    if wrong is None and isinstance(target, Path) and (found := absence(target)):
        remedy = f"put the file back: archived sessions wait for it; if it was moved: {_moved(target)}"
        wrong = Finding("duckdb", PROBLEM, f"{target} {found}", remedy)
    if wrong is None:
        return Finding("also shipped to", OK, url)
    return Finding("also shipped to", PROBLEM, f"{url}: {wrong.what}: {wrong.detail}", wrong.remedy)


def _dataset(dataset: Dataset, environment: Mapping[str, str]) -> Iterator[Finding]:
    if missing("bigquery"):
        yield Finding("packages", PROBLEM, "the extra bigquery is not installed", install_line("bigquery"))
        return
    from ledger.cli.doctor.bigquery import examine

    yield from examine(dataset, environment, LEDGER_WAREHOUSE.name)


def _relays(path: Path) -> Iterator[Finding]:
    """Find warehouses for which rows wait since the last attempt to ship them failed."""
    for url, error in _rows(path, _FAILED):
        remedy = f"do what the message says, then: ledger sync --warehouse {shlex.quote(url)}"
        yield Finding("relay", PROBLEM, f"{url}: rows wait, since they could not be shipped: {error}", remedy)


def _archived_in(path: Path, url: str) -> int:
    """Return the number of archived sessions whose rows are in a warehouse of a ledger, and not in the ledger."""
    found = _reading(path, lambda connection: holders.count(connection, url), None)
    if found is None:  # in the file of an earlier release, no table says which warehouse has them
        found = sum(count for (count,) in _rows(path, "SELECT COUNT(*) FROM archived_sessions"))
    return found


def _rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query; none if the ledger cannot be read, which the checks of its file say."""
    return _reading(path, lambda connection: connection.execute(sql).fetchall(), [])


def _reading(path: Path, read: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
    """Return what ``read`` returns of a ledger; ``otherwise`` if it cannot be read, as the checks of its file say."""
    from ledger.cli.doctor.sqlite import reading

    if not path.exists():
        return otherwise
    try:
        with reading(path) as connection:
            return read(connection)
    except (sqlite3.Error, ConfigurationError):
        return otherwise
