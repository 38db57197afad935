"""Datasette serves a ledger's file, with its views, beside the program that writes it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ledger import SessionLedger
from ledger.stores.sqlite.views import VIEWS

# What `datasette FILE` serves, in one process for all requests.
ANSWERS = """
import asyncio, json, sys
from datasette.app import Datasette

async def answers(path, *urls):
    datasette = Datasette([path])
    return [(await datasette.client.get(url)).text for url in urls]

print(json.dumps(asyncio.run(answers(*sys.argv[1:]))))
"""
URLS = ("/ledger.json", "/ledger/sessions.json?_shape=array&user_id=ada", "/ledger/sessions")


def test_datasette_shows_the_sessions_of_a_live_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with SessionLedger.open(f"sqlite:///{path}?synchronous=NORMAL") as ledger:
        ledger.create_session("ada", "How many orders?", session_id="s1")
        ledger.add_message("s1", "user", "How many orders?")
        done = subprocess.run(
            [sys.executable, "-c", ANSWERS, str(path), *URLS], capture_output=True, text=True, check=True, timeout=60
        )
        ledger.complete_session("s1")
    database, rows, page = json.loads(done.stdout)
    assert {view["name"] for view in json.loads(database)["views"]} == set(VIEWS)
    assert [(row["session_id"], row["question"], row["status"]) for row in json.loads(rows)] == [
        ("s1", "How many orders?", "active")
    ]
    assert "How many orders?" in page
