"""`ledger emulator`: BigQuery's emulator for as long as it is wanted, with the exports that name it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests

from ledger.cli.demo import emulator as own_emulator
from support.shell import Shell

LEDGER = str(Path(sys.executable).with_name("ledger"))
REST, GRPC = "BIGQUERY_EMULATOR_HOST", "BIGQUERY_EMULATOR_GRPC_HOST"
pytestmark = pytest.mark.emulator


@contextmanager
def running(*args: str) -> Iterator[dict[str, str]]:
    """The exports that the command prints; a signal ends it in order."""
    command = [LEDGER, "emulator", "--port", "0", "--grpc-port", "0", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        exports = {}
        for name in (REST, GRPC):
            line = process.stdout.readline().strip()
            assert line.startswith(f"export {name}=127.0.0.1:"), process.stderr.read()
            exports[name] = line.partition("=")[2]
        try:
            yield exports
        finally:
            process.send_signal(signal.SIGTERM)
            left, said = process.communicate(timeout=60)
        assert (process.returncode, left) == (0, "")
        assert "The emulator runs until Ctrl-C" in said
        assert "Traceback" not in said


def test_an_emulator_runs_until_it_is_told_to_end_and_keeps_what_is_wanted(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with running("--data", data) as exports:
        datasets = f"http://{exports[REST]}/bigquery/v2/projects/ledger/datasets"
        reference = {"datasetReference": {"projectId": "ledger", "datasetId": "agents"}}
        requests.post(datasets, json=reference, timeout=30).raise_for_status()
        host, _, port = exports[GRPC].rpartition(":")
        socket.create_connection((host, int(port)), 30).close()
    with pytest.raises(requests.ConnectionError):
        requests.get(datasets, timeout=30)
    with running("--data", data) as exports:
        listed = requests.get(f"http://{exports[REST]}/bigquery/v2/projects/ledger/datasets", timeout=30).json()
        assert "agents" in [each["datasetReference"]["datasetId"] for each in listed["datasets"]]


@pytest.mark.parametrize("option", ["--port", "--grpc-port"])
def test_a_port_that_is_in_use_is_named(shell: Shell, option: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = str(other.getsockname()[1])
        other_option = {"--port": "--grpc-port", "--grpc-port": "--port"}[option]
        code, message = shell.fails("emulator", option, port, other_option, "0")
    assert code != 0
    assert f"cannot listen on port {port}: Address already in use. Choose other ports (--port, --grpc-port)" in message


def test_without_a_folder_for_its_data_nothing_stays(tmp_path: Path) -> None:
    command = [LEDGER, "emulator", "--port", "0", "--grpc-port", "0", "--json"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.readline()
        while not printed.rstrip().endswith("}"):
            printed += process.stdout.readline()
        assert set(json.loads(printed)) == {REST, GRPC}
        assert list(tmp_path.glob("ledger-emulator-*"))
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    assert not list(tmp_path.iterdir())


def test_the_versions_of_the_message_are_those_that_are_tested() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())
    pinned = [each.partition(";")[0] for each in project["dependency-groups"]["emulator"]]
    assert set(pinned) <= set(own_emulator.OWN_ENVIRONMENT.replace(";", " ").split())
