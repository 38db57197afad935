"""The command line and the scripts on a dataset of the emulator."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner, Result

from ledger.cli.scripts.commands import create_sessions_table
from support.bigquery_stores import environment
from support.shell import Shell

if TYPE_CHECKING:
    from support.emulator import Emulator

EMULATOR = ("BIGQUERY_EMULATOR_HOST", "BIGQUERY_EMULATOR_GRPC_HOST")


class Place:
    """A dataset with the ledger's tables, made by the script, and what the script said."""

    def __init__(self, project: str, dataset: str) -> None:
        self.project = project
        self.name = dataset
        self.url = f"bigquery://{project}/{dataset}"
        self.options = ("--project", project, "--dataset", dataset)


def script(command: click.Command, *args: str, **settings: str) -> Result:
    result = CliRunner().invoke(command, list(args), env={"COLUMNS": "80", "LEDGER_USER": "ada", **settings})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def printed(command: click.Command, *args: str, **settings: str) -> str:
    result = script(command, *args, **settings)
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def emulator_settings(emulator: Emulator) -> Iterator[None]:
    """The environment names the emulator."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(emulator).items():
            patch.setenv(name, value)
        for name in ("LEDGER_URL", "GOOGLE_CLOUD_PROJECT"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def created(emulator: Emulator, emulator_settings: None) -> Iterator[tuple[Place, str]]:
    """A dataset made by the script, and what the script said."""
    place = Place(emulator.project, f"cli_{uuid.uuid4().hex[:8]}")
    yield place, printed(create_sessions_table, *place.options)
    emulator.client.delete_dataset(place.name, delete_contents=True, not_found_ok=True)


@pytest.fixture
def place(created: tuple[Place, str]) -> Place:
    return created[0]


@pytest.fixture
def there(shell: Shell, place: Place) -> Shell:
    """A command line whose ledger is the dataset."""
    shell.url = place.url
    return shell


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No emulator, no credentials, no machine of Google's; returns an empty home."""
    for name in (*EMULATOR, "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def closed_port() -> int:
    """A port at which nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
    return port
