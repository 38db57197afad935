"""``ledger doctor``: check the installation, the ledger and its warehouse, without changing anything."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path

import click

from ledger.cli.app import command
from ledger.cli.doctor.findings import NOTE, OK, PROBLEM, Finding
from ledger.cli.doctor.settings import examine_settings
from ledger.cli.doctor.sqlite import examine_file
from ledger.cli.doctor.warehouses import examine_warehouses
from ledger.cli.output.shapes import print_json
from ledger.cli.wording import in_commands
from ledger.errors import LedgerError
from ledger.extras import EXTRAS, install_line, missing
from ledger.files import absolute_path, is_from_system
from ledger.settings import (
    BIGQUERY_EMULATOR_GRPC_HOST,
    BIGQUERY_EMULATOR_HOST,
    CLOUDSDK_CONFIG,
    GOOGLE_APPLICATION_CREDENTIALS,
    HOME,
    LEDGER_WAREHOUSE,
    process_environment,
)

COMMANDS: dict[str, click.Command] = {}
#: Packages whose versions are reported.
PACKAGES = ("session-ledger", "click", "rich", "orjson", "pydantic", "tenacity", "uuid-utils")
#: Settings that hold addresses of an emulator. ``ledger.cli.doctor.bigquery`` checks them if the ledger is in BigQuery.
EMULATOR_SETTINGS = frozenset({BIGQUERY_EMULATOR_HOST.name, BIGQUERY_EMULATOR_GRPC_HOST.name})


@command(
    "doctor",
    "ledger doctor",
    "ledger doctor --json",
    "ledger --url bigquery://my-project/agents doctor --deep --report deep.md",
    into=COMMANDS,
)
@click.option("--deep", is_flag=True, help="Compare BigQuery with what the ledger assumes of it, by experiments.")
@click.option(
    "-w",
    "--warehouse",
    envvar=LEDGER_WAREHOUSE.name,
    show_envvar=True,
    metavar="URL",
    help="Warehouse to check. With --deep: the dataset beside which to experiment, if the ledger is a file.",
)
@click.option("--yes", is_flag=True, help="With --deep: do not ask before statements that cost money.")
@click.option(
    "--report",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --deep: write the results to a new Markdown file, without names, to paste into an issue.",
)
def doctor(as_json: bool, url: str | None, deep: bool, warehouse: str | None, yes: bool, report: Path | None) -> None:
    """Check the installation, settings, ledger and warehouse, and print a remedy for each problem.

    It tries an append, which is rolled back, and opens the warehouses that have rows of the ledger. The command changes
    nothing and never prints secrets. The exit code is 1 if there is a problem.

    With --deep it runs ten experiments instead, in a new dataset beside the ledger's, which is removed at the end. They
    cost less than 1 US cent. The exit code is 1 if BigQuery does something else than the ledger assumes.
    """
    if deep:
        from ledger.cli.doctor.deep.command import run

        run(url, warehouse, process_environment(), consent=yes, output=report, as_json=as_json)
        return
    if yes or report is not None:
        raise click.UsageError("--yes and --report are options of --deep.")
    environment = dict(process_environment())
    if warehouse is not None:
        environment[LEDGER_WAREHOUSE.name] = warehouse
    findings = [replace(finding, detail=in_commands(finding.detail)) for finding in examine(url, environment)]
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
        yield from examine_settings(environment, except_for=EMULATOR_SETTINGS)
    else:
        if parsed is not None:
            yield from _readable("file", PROBLEM, examine_file(parsed))
            yield from _readable("duckdb", PROBLEM, examine_warehouses(absolute_path(parsed.path), environment))
        yield from examine_settings(environment)
        yield from _readable("google", NOTE, _credentials(environment))


def _readable(what: str, status: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield findings, and one with the given status if a file or folder that they are about cannot be read."""
    try:
        yield from findings
    except OSError as error:
        if not is_from_system(error):
            raise
        detail = f"{error.filename or 'a file'} cannot be examined: {error.strerror}"
        yield Finding(what, status, detail, "correct the path, or run as a user who may read it")


def _healthy(findings: list[Finding]) -> bool:
    return all(finding.status != PROBLEM for finding in findings)


def _packages() -> Finding:
    lacking = [name for name in PACKAGES if _version(name) is None]
    if lacking:
        return Finding("packages", PROBLEM, f"missing: {', '.join(lacking)}", "in the checkout: pip install .")
    return Finding("packages", OK, _versions(PACKAGES))


def _extra_of(url: str) -> str | None:
    """Return the name of the extra that the URL of a ledger or warehouse requires, or None if it requires none."""
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


def _credentials(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Check whether credentials for BigQuery are configured, without reading them."""
    if BIGQUERY_EMULATOR_HOST.text(environment):
        yield Finding("google", OK, "an emulator is configured; no credentials are needed")
        return
    key_file = environment.get(GOOGLE_APPLICATION_CREDENTIALS.name)
    if key_file is not None and not Path(key_file).is_file():
        remedy = "correct or unset GOOGLE_APPLICATION_CREDENTIALS"
        yield Finding("google", PROBLEM, "the file in GOOGLE_APPLICATION_CREDENTIALS does not exist", remedy)
        return
    folder = Path(CLOUDSDK_CONFIG.text(environment) or Path(environment.get(HOME.name, "/")) / ".config" / "gcloud")
    if key_file is not None or (folder / "application_default_credentials.json").is_file():
        yield Finding("google", OK, "credentials are configured")
        return
    remedy = "only for BigQuery: gcloud auth application-default login"
    yield Finding("google", NOTE, "no credentials are configured", remedy)
