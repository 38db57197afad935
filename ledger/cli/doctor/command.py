"""``ledger doctor``: check the installation, the ledger and its warehouse, without changing anything."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from ledger.cli.app import command
from ledger.cli.doctor.findings import NOTE, OK, PROBLEM, Finding
from ledger.cli.output.shapes import print_json
from ledger.errors import LedgerError
from ledger.extras import EXTRAS, install_line, missing
from ledger.settings import (
    BIGQUERY_EMULATOR_GRPC_HOST,
    BIGQUERY_EMULATOR_HOST,
    CLOUDSDK_CONFIG,
    GOOGLE_APPLICATION_CREDENTIALS,
    HOME,
    LEDGER_WAREHOUSE,
    SETTINGS,
    process_environment,
)

if TYPE_CHECKING:
    from ledger.stores.urls import SqliteFile

COMMANDS: dict[str, click.Command] = {}
#: Minimum free disk space, in bytes.
LOW_DISK = 100_000_000
#: Packages whose versions are reported.
PACKAGES = ("session-ledger", "click", "rich", "orjson", "pydantic", "tenacity", "uuid-utils")
#: Settings with addresses of an emulator. For a ledger in BigQuery, ``ledger.cli.doctor.bigquery`` checks them.
EMULATOR_SETTINGS = {BIGQUERY_EMULATOR_HOST.name, BIGQUERY_EMULATOR_GRPC_HOST.name}
#: Settings whose values are shown. Other LEDGER_ settings may be secrets; the doctor shows only that they are set.
PUBLIC_SETTINGS = {setting.name for setting in SETTINGS if setting.shown}


@command("doctor", "ledger doctor", "ledger doctor --json", into=COMMANDS)
def doctor(as_json: bool, url: str | None) -> None:
    """Check the installation, settings, ledger and warehouse, and print a remedy for each problem.

    The command changes nothing and never prints secrets. The exit code is 1 if there is a problem.
    """
    findings = list(examine(url, process_environment()))
    if as_json:
        print_json({"healthy": _healthy(findings), "findings": [asdict(finding) for finding in findings]})
    else:
        from ledger.cli.output.render import findings_table

        findings_table([(each.what, each.status, each.detail, each.remedy) for each in findings])
    if not _healthy(findings):
        raise click.exceptions.Exit(1)


def examine(url: str | None, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Run all checks, and yield their findings in the order in which problems should be fixed."""
    from ledger.sdk.opening import DEFAULT_URL
    from ledger.stores.urls import parse_url
    from ledger.warehouse.bigquery.settings import Dataset

    yield Finding("python", OK, f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}")
    yield _packages()
    url = url or DEFAULT_URL
    needed = {extra for each in (url, LEDGER_WAREHOUSE.text(environment) or "") if (extra := _extra_of(each))}
    yield from _extras(needed)
    try:
        parsed = parse_url(url)
    except LedgerError as error:
        yield Finding("url", PROBLEM, str(error), "set LEDGER_URL or pass --url")
        parsed = None
    else:
        yield Finding("url", OK, url)
    if isinstance(parsed, Dataset):
        if not missing("bigquery"):
            from ledger.cli.doctor.bigquery import examine as examine_dataset

            yield from examine_dataset(parsed, environment)
        yield from _settings({name: environment[name] for name in environment.keys() - EMULATOR_SETTINGS})
    else:
        yield from [] if parsed is None else _ledger(parsed)
        yield from _settings(environment)
        yield _credentials(environment)


def _healthy(findings: list[Finding]) -> bool:
    return all(finding.status != PROBLEM for finding in findings)


def _packages() -> Finding:
    lacking = [name for name in PACKAGES if _version(name) is None]
    if lacking:
        return Finding("packages", PROBLEM, f"missing: {', '.join(lacking)}", f"pip install {' '.join(lacking)}")
    return Finding("packages", OK, _versions(PACKAGES))


def _extra_of(url: str) -> str | None:
    """Return the extra that a URL requires, or None."""
    return {"bigquery": "bigquery", "duckdb": "analytics"}.get(url.partition("://")[0])


def _extras(needed: Collection[str]) -> Iterator[Finding]:
    """Check the extras. A missing extra is a problem only if a configured URL requires it."""
    for extra, packages in EXTRAS.items():
        lacking = missing(extra)
        if lacking:
            status = PROBLEM if extra in needed else NOTE
            detail = f"not installed: {', '.join(lacking)}"
            yield Finding(f"extra {extra}", status, detail, install_line(extra))
        else:
            yield Finding(f"extra {extra}", OK, _versions(packages.values()))


def _versions(packages: Iterable[str]) -> str:
    return ", ".join(f"{name} {_version(name) or ''}".rstrip() for name in packages)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _ledger(file: SqliteFile) -> Iterator[Finding]:
    path = Path(file.path).absolute()
    if not path.exists():
        yield Finding("file", PROBLEM, f"{path} does not exist", "create it with `ledger init`, or check LEDGER_URL")
        yield from _folder(_nearest(path.parent))
        return
    yield from _file(path)
    yield from _folder(path.parent)
    yield _durability(file.synchronous)
    yield from _warehouse(path.with_suffix(".duckdb"))


def _durability(synchronous: str) -> Finding:
    if synchronous == "FULL":
        return Finding("synchronous", OK, "FULL: appends survive a power failure")
    if synchronous == "NORMAL":
        return Finding("synchronous", NOTE, "NORMAL: a power failure may lose the last appends")
    return Finding("synchronous", PROBLEM, f"{synchronous} is unknown", "use ?synchronous=FULL or NORMAL in the URL")


def _nearest(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))


def _file(path: Path) -> Iterator[Finding]:
    """Check a SQLite file without changing it."""
    from ledger.stores.sqlite.migrations import MIGRATIONS
    from ledger.stores.sqlite.schema import APPLICATION_ID

    size = f"{path.stat().st_size:,} bytes"
    try:
        # Reading a WAL database creates files beside it, unless it is opened as immutable. That is safe only without a
        # WAL file; with one, the other files exist already.
        mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "immutable=1"
        connection = sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, timeout=2)
        try:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            schema = connection.execute("PRAGMA user_version").fetchone()[0]
            ours = application == APPLICATION_ID
            sessions = connection.execute("SELECT COUNT(*) FROM session_heads").fetchone()[0] if ours else 0
        finally:
            connection.close()
    except sqlite3.Error as error:
        from ledger.stores.sqlite.errors import translate

        yield Finding("file", PROBLEM, str(translate(error, path)), "set LEDGER_URL to a ledger, or restore a backup")
        return
    if not ours:
        detail = f"{path} is a SQLite database of another program"
        yield Finding("file", PROBLEM, detail, "set LEDGER_URL to another file")
        return
    yield Finding("file", OK, f"{path}, {size}, {sessions:,} sessions")
    if schema > len(MIGRATIONS):
        detail = f"{schema}, newer than {len(MIGRATIONS)} of this release"
        yield Finding("schema", PROBLEM, detail, "pip install --upgrade session-ledger")
    elif schema < len(MIGRATIONS):
        yield Finding("schema", NOTE, f"{schema}; the next command upgrades it to {len(MIGRATIONS)}")
    else:
        yield Finding("schema", OK, str(schema))
    if os.access(path, os.W_OK):
        yield Finding("writable", OK, "yes")
    else:
        yield Finding("writable", PROBLEM, f"{path} is not writable", f"chmod u+w '{path}', or run as its owner")


def _folder(folder: Path) -> Iterator[Finding]:
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding(
            "folder",
            PROBLEM,
            f"{folder} is not writable; the ledger creates files beside itself",
            "change its permissions",
        )
    free = shutil.disk_usage(folder).free
    low = free < LOW_DISK
    yield Finding("disk", PROBLEM if low else OK, f"{free / 1e9:,.1f} GB free", "free some space" if low else "")


def _warehouse(path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield Finding("duckdb", NOTE, f"{path.name} does not exist", "`ledger sql` creates it")
    elif os.access(path, os.R_OK | os.W_OK):
        yield Finding("duckdb", OK, f"{path.name}, {path.stat().st_size:,} bytes")
    else:
        remedy = f"change its permissions, or delete it: `ledger sql` creates '{path}' again from the ledger"
        yield Finding("duckdb", PROBLEM, f"{path.name} is not readable and writable", remedy)


def _settings(environment: Mapping[str, str]) -> Iterator[Finding]:
    for name in sorted(environment):
        if name in PUBLIC_SETTINGS:
            yield Finding(name, OK, environment[name])
        elif name.startswith("LEDGER_"):
            yield Finding(name, OK, "set")


def _credentials(environment: Mapping[str, str]) -> Finding:
    """Check whether credentials for BigQuery are configured, without reading them."""
    if BIGQUERY_EMULATOR_HOST.text(environment):
        return Finding("google", OK, "an emulator is configured; no credentials are needed")
    key_file = environment.get(GOOGLE_APPLICATION_CREDENTIALS.name)
    if key_file is not None and not Path(key_file).is_file():
        remedy = "correct or unset GOOGLE_APPLICATION_CREDENTIALS"
        return Finding("google", PROBLEM, "the file in GOOGLE_APPLICATION_CREDENTIALS does not exist", remedy)
    folder = Path(CLOUDSDK_CONFIG.text(environment) or Path(environment.get(HOME.name, "/")) / ".config" / "gcloud")
    if key_file is not None or (folder / "application_default_credentials.json").is_file():
        return Finding("google", OK, "credentials are configured")
    remedy = "only for BigQuery: gcloud auth application-default login"
    return Finding("google", NOTE, "no credentials are configured", remedy)
