"""`ledger security`: what it prints without BigQuery, what it refuses, and what it says that it did."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

import pytest

from support.accounts import NOBODY
from support.bigquery_commands import emulator_settings
from support.shell import Shell

if TYPE_CHECKING:
    from support.emulator import Emulator

__all__ = ["emulator_settings"]
PLACE = ("--url", "bigquery://my-project/agents")
RELAY = "serviceAccount:relay@my-project.iam.gserviceaccount.com"


def test_without_apply_it_prints_the_statements_and_calls_nobody(shell: Shell) -> None:
    said = shell.ok("security", *PLACE, "--full-access", RELAY, "--readers", "group:analysts@example.com")
    assert said.count("CREATE OR REPLACE ROW ACCESS POLICY") == 2 * said.count("FILTER USING (TRUE);")
    assert said.count("CREATE TABLE") == 1
    printed = json.loads(shell.ok("security", *PLACE, "--full-access", RELAY, "--json"))
    assert "".join(f"{text}\n" for text in printed["statements"][1:]) in said


def test_it_refuses_what_would_lock_the_ledger_out_and_what_is_not_in_bigquery(shell: Shell) -> None:
    assert "also name the accounts that append" in shell.fails("security", *PLACE, "--readers", "domain:example.com")[1]
    assert "is not a member" in shell.fails("security", *PLACE, "--full-access", "ana")[1]
    shell.ok("init")
    assert "permissions of the file" in shell.fails("security", "--full-access", RELAY)[1]


@pytest.mark.emulator
@pytest.mark.slow
@pytest.mark.usefixtures("emulator_settings")
def test_with_apply_it_says_what_was_done_to_each_object(emulator: Emulator, shell: Shell) -> None:
    name = f"cli_{uuid.uuid4().hex[:8]}"
    place = ("--url", f"bigquery://{emulator.project}/{name}")
    assert "does not exist. Create the ledger there first" in shell.fails("security", *place, "--apply")[1]
    shell.ok("init", *place)
    lines = shell.ok("security", *place, "--full-access", NOBODY, "--apply").splitlines()
    assert lines[0].split() == ["what", "name", "done", "detail"]
    kinds = [line.split()[0] for line in lines[1:-1]]
    assert kinds == ["table", *["policy"] * (len(kinds) - 1)]
    policies = [line.split()[3] for line in lines[2:-1]]
    assert {"session_events", "session_heads", "session_index"} <= set(policies)
    assert lines[-1] == "Who may read whose sessions: the rows of session_readers. See docs/security.md."
    done = json.loads(shell.ok("security", *place, "--apply", "--json"))
    assert done == {"changes": [{"what": "table", "name": "session_readers", "done": "unchanged", "detail": ""}]}
    for table in policies:
        emulator.client.query_and_wait(f"DROP ALL ROW ACCESS POLICIES ON `{emulator.project}.{name}.{table}`")
    emulator.client.delete_dataset(name, delete_contents=True)
