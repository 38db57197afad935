"""``ledger doctor``: what is configured and reachable, and how to mend what is not. It changes nothing."""

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
#: Less free space than this is a problem.
LOW_DISK = 100_000_000
#: Packages whose versions matter when something goes wrong.
PACKAGES = ("session-ledger", "click", "rich", "orjson", "pydantic", "tenacity", "uuid-utils")
#: Addresses of an emulator; of a ledger in BigQuery they are looked at rather than shown.
EMULATOR_SETTINGS = {BIGQUERY_EMULATOR_HOST.name, BIGQUERY_EMULATOR_GRPC_HOST.name}
#: Settings whose values are shown; of any other LEDGER_ setting only that it is set, since it may be a secret.
PUBLIC_SETTINGS = {setting.name for setting in SETTINGS if setting.shown}


@command("doctor", "ledger doctor", "ledger doctor --json", into=COMMANDS)
def doctor(as_json: bool, url: str | None) -> None:
    """Look at everything the ledger needs, and say how to mend what is missing. Changes nothing.

    The exit code is 1 where there is a problem. Secrets are never shown, only whether they are there.
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
    """Everything there is to find, in the order in which to mend it."""
    from ledger.sdk.opening import DEFAULT_URL
    from ledger.stores.urls import parse_url
    from ledger.warehouse.bigquery.settings import Dataset

    yield Finding("python", OK, f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}")
    yield _packages()
    url = url or DEFAULT_URL
    needed = {extra for place in (url, LEDGER_WAREHOUSE.text(environment) or "") if (extra := _extra_of(place))}
    yield from _extras(needed)
    try:
        place = parse_url(url)
    except LedgerError as error:
        yield Finding("url", PROBLEM, str(error), "set LEDGER_URL or give --url")
        place = None
    else:
        yield Finding("url", OK, url)
    if isinstance(place, Dataset):
        if not missing("bigquery"):
            from ledger.cli.doctor.bigquery import examine as examine_dataset

            yield from examine_dataset(place, environment)
        yield from _settings({name: environment[name] for name in environment.keys() - EMULATOR_SETTINGS})
    else:
        yield from [] if place is None else _ledger(place)
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
    """The extra that a URL needs."""
    return {"bigquery": "bigquery", "duckdb": "analytics"}.get(url.partition("://")[0])


def _extras(needed: Collection[str]) -> Iterator[Finding]:
    """The extras, installed or not; one that is not is a problem only where a URL that is configured needs it."""
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


def _ledger(place: SqliteFile) -> Iterator[Finding]:
    path = Path(place.path).absolute()
    if not path.exists():
        yield Finding("file", PROBLEM, f"{path} does not exist", "make it with `ledger init`, or check LEDGER_URL")
        yield from _folder(_nearest(path.parent))
        return
    yield from _file(path)
    yield from _folder(path.parent)
    yield _durability(place.synchronous)
    yield from _warehouse(path.with_suffix(".duckdb"))


def _durability(synchronous: str) -> Finding:
    if synchronous == "FULL":
        return Finding("synchronous", OK, "FULL: an append survives a power cut")
    if synchronous == "NORMAL":
        return Finding("synchronous", NOTE, "NORMAL: a power cut may take the last appends")
    return Finding("synchronous", PROBLEM, f"{synchronous} is unknown", "use ?synchronous=FULL or NORMAL in the URL")


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))


def _file(path: Path) -> Iterator[Finding]:
    """What the file says about itself, read without changing it."""
    from ledger.stores.sqlite.schema import APPLICATION_ID, MIGRATIONS

    size = f"{path.stat().st_size:,} bytes"
    try:
        # Reading a WAL database makes files beside it, unless it is opened as one that nobody changes. It is one where
        # there is no WAL; where there is one, its files are there already.
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

        yield Finding("file", PROBLEM, str(translate(error, path)), "point LEDGER_URL at a ledger, or restore a backup")
        return
    if not ours:
        detail = f"{path} is a SQLite database of another program"
        yield Finding("file", PROBLEM, detail, "point LEDGER_URL at a file of the ledger's own")
        return
    yield Finding("file", OK, f"{path}, {size}, {sessions:,} sessions")
    if schema > len(MIGRATIONS):
        detail = f"{schema}, newer than this code's {len(MIGRATIONS)}"
        yield Finding("schema", PROBLEM, detail, "pip install --upgrade session-ledger")
    elif schema < len(MIGRATIONS):
        yield Finding("schema", NOTE, f"{schema}; the next opening brings it to {len(MIGRATIONS)}")
    else:
        yield Finding("schema", OK, str(schema))
    if os.access(path, os.W_OK):
        yield Finding("writable", OK, "yes")
    else:
        yield Finding(
            "writable", PROBLEM, f"{path} cannot be written", f"chmod u+w '{path}', or use its owner's account"
        )


def _folder(folder: Path) -> Iterator[Finding]:
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding(
            "folder",
            PROBLEM,
            f"{folder} cannot be written; the ledger keeps files beside itself",
            "change its permissions",
        )
    free = shutil.disk_usage(folder).free
    low = free < LOW_DISK
    yield Finding("disk", PROBLEM if low else OK, f"{free / 1e9:,.1f} GB free", "free some space" if low else "")


def _warehouse(path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield Finding("duckdb", NOTE, f"{path.name} is not there yet", "the first `ledger sql` makes it")
    elif os.access(path, os.R_OK | os.W_OK):
        yield Finding("duckdb", OK, f"{path.name}, {path.stat().st_size:,} bytes")
    else:
        remedy = f"change its permissions, or delete it: `ledger sql` makes '{path}' again from the ledger"
        yield Finding("duckdb", PROBLEM, f"{path.name} cannot be read and written", remedy)


def _settings(environment: Mapping[str, str]) -> Iterator[Finding]:
    for name in sorted(environment):
        if name in PUBLIC_SETTINGS:
            yield Finding(name, OK, environment[name])
        elif name.startswith("LEDGER_"):
            yield Finding(name, OK, "set")


def _credentials(environment: Mapping[str, str]) -> Finding:
    """Whether Google's libraries would find credentials; they are not opened."""
    if BIGQUERY_EMULATOR_HOST.text(environment):
        return Finding("google", OK, "an emulator is set; no credentials are needed")
    named = environment.get(GOOGLE_APPLICATION_CREDENTIALS.name)
    if named is not None and not Path(named).is_file():
        remedy = "mend the path, or unset GOOGLE_APPLICATION_CREDENTIALS"
        return Finding("google", PROBLEM, "GOOGLE_APPLICATION_CREDENTIALS names a file that is not there", remedy)
    home = Path(environment.get(HOME.name, "/"))
    folder = Path(CLOUDSDK_CONFIG.text(environment) or home / ".config" / "gcloud")
    if named is not None or (folder / "application_default_credentials.json").is_file():
        return Finding("google", OK, "credentials are configured")
    remedy = "only for BigQuery: gcloud auth application-default login"
    return Finding("google", NOTE, "no credentials are configured", remedy)
