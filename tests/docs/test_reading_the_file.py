"""The commands and statements of docs/reading-the-file.md run, with the sqlite3 shell where it is installed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from ledger import SessionLedger
from support.consoles import blocks_of, check_commands

PAGE = Path(__file__).parents[2] / "docs" / "reading-the-file.md"
# Stands in for the shell where there is none.
SHELL = f"""#!{sys.executable}
import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]):
    print("|".join(map(str, row)))
"""


def test_the_commands_of_the_page_print_what_it_says(tmp_path: Path) -> None:
    own = tmp_path / "bin"
    own.mkdir()
    if shutil.which("sqlite3") is None:
        (own / "sqlite3").write_text(SHELL, encoding="utf-8")
        (own / "sqlite3").chmod(0o755)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], str(own)])
    consoles = [text for kind, text in blocks_of(PAGE) if kind == "console"]
    check_commands(consoles, tmp_path, PATH=path)


def test_the_statements_of_the_page_answer_its_questions(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with SessionLedger.open(f"sqlite:///{path}?synchronous=NORMAL") as ledger:
        ledger.create_session("ada", "q", session_id="s", fields={"constraints": {"tool_calls": ["buy", "buy"]}})
        ledger.update_session("s", {"tool_call_status": {"buy": "completed"}})
        ledger.add_message("s", "user", "one")
        ledger.add_message("s", "assistant", "two", event_id="job-42")
    (statements,) = (text for kind, text in blocks_of(PAGE) if kind == "sql")
    with closing(sqlite3.connect(path)) as connection:
        answers = [connection.execute(each).fetchall() for each in statements.split(";") if each.strip()]
    assert answers == [[("buy", 2, 0.5)], [("s", 1)], [("s", 4)]]
