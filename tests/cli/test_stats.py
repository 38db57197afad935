"""``ledger stats``: what it shows on terminals of any width, what it never prints, and the same numbers as JSON."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger import SessionLedger
from ledger.cli.exits import USAGE
from ledger.testing import START, CountedIds, SetClock
from support.bigquery_stores import environment
from support.shell import Shell

if TYPE_CHECKING:
    from support.emulator import Emulator

pytestmark = pytest.mark.duckdb
COMMAND = [sys.executable, "-c", "from ledger.cli import main; main()"]
DAYS = ("--until", (START + timedelta(days=1)).date().isoformat())
#: A name with a terminal's control sequences, markup of rich, a link and more characters than a line has.
EVIL = "[bold red]x[/] \x1b[31m\x1b]8;;http://e.example\x07\r\n\u202e" + "long" * 30


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Two days of sessions: calls of two tools and two models, of which one has a name that is an attack."""
    clock = SetClock()
    shell = Shell(tmp_path_factory.mktemp("stats") / "l.db")
    with SessionLedger.open(shell.url, clock=clock, ids=CountedIds(), relay="off") as ledger:
        for day, (tool, model) in enumerate([("sql", "small"), (EVIL, EVIL), ("sql", "small")]):
            clock.now = START - timedelta(days=7 if day == 0 else 0)
            sid = ledger.create_session("ada", "q", fields={"tool_calls": [{"name": tool, "id": "a"}]})
            ledger.add_message(sid, "user", "hi")
            ledger.update_tool_call_status(sid, "a", "running")
            clock.move(1.5)
            ledger.update_tool_call_status(sid, "a", "failed" if day == 1 else "completed")
            ledger.record_model_call(sid, model, **({} if day == 1 else {"cost_usd": 0.5, "input_tokens": 1_234_567}))
            ledger.complete_session(sid)
    return shell


def line_of(text: str, name: str) -> list[str]:
    """The cells of the first line that begins with a name."""
    line = next(line for line in text.splitlines() if line.strip().startswith(name))
    return re.split(r"\s{2,}", line.strip())


def on_terminal(shell: Shell, **settings: str) -> str:
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "80", "LEDGER_URL": shell.url, **settings}
    process = subprocess.Popen(
        [*COMMAND, "stats", *DAYS], env=environment, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # Linux, at the end of a terminal
        assert shown
    os.close(ours)
    assert process.wait(60) == 0
    return shown.decode()


def test_a_period_stands_beside_the_one_before(recorded):
    text = recorded.ok("stats", *DAYS)
    assert "2026-02-27 to 2026-03-05 (7 days)  against 2026-02-20 to 2026-02-26 (7 days)" in text
    assert line_of(text, "sessions begun") == ["sessions begun", "2", "1", "+100%"]
    assert line_of(text, "tool failure ratio") == ["tool failure ratio", "50%", "0%", "+50 pts"]
    assert line_of(text, "tool latency, median") == ["tool latency, median", "1.5 s", "1.5 s", "0%"]
    assert line_of(text, "input tokens") == ["input tokens", "1.23M", "1.23M", "0%"]
    assert line_of(text, "cost") == ["cost", "$0.50", "$0.50", "0%"]
    assert "The cost lacks 1 model call of 2, without a price." in text


def test_what_is_not_known_is_a_dash_and_never_0(recorded):
    text = recorded.ok("stats", *DAYS)
    assert line_of(text, "model latency, median") == ["model latency, median", "-", "-", "-"]
    assert line_of(text, "output tokens") == ["output tokens", "-", "-", "-"]
    models = text[text.index("models") :]
    (evil,) = [line for line in models.splitlines() if "[bold red]" in line]
    assert re.split(r"\s{2,}", evil.strip())[1:] == ["1", "0", "-", "-", "-", "-", "-"]


def test_an_empty_ledger_has_an_answer(shell):
    shell.ok("init")
    text = shell.ok("stats")
    assert line_of(text, "sessions begun") == ["sessions begun", "0", "0", "-"]
    assert line_of(text, "success ratio") == ["success ratio", "-", "-", "-"]
    assert "tools" not in text
    assert shell.json("stats")["current"]["cost_usd"] is None


def test_json_has_the_same_numbers(recorded):
    found = recorded.json("stats", *DAYS)
    now, before = found["current"], found["before"]
    assert (now["first_day"], now["last_day"], before["first_day"]) == ("2026-02-27", "2026-03-05", "2026-02-20")
    assert (now["session_count"], before["session_count"], now["success_ratio"]) == (2, 1, 1.0)
    assert [tool["tool"] for tool in now["tools"]] == [EVIL, "sql"]
    assert [(model["cost_usd"], model["unpriced_count"]) for model in now["models"]] == [(0.5, 0), (None, 1)]
    assert [day["session_count"] for day in found["days"]] == [0, 0, 0, 0, 0, 0, 2]
    assert found["days"][-1]["day"] == "2026-03-05"
    assert "\x1b" not in recorded.ok("stats", *DAYS, "--json")


@pytest.mark.parametrize("columns", [24, 59, 80])
def test_it_fits_every_width_and_no_number_is_cut(recorded, columns):
    done = recorded("stats", *DAYS, COLUMNS=str(columns))
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert [line for line in lines if re.search(r"[0-9]…", line) and not line.startswith("days")] == []
    assert line_of(done.stdout, "i" if columns < 40 else "input")[1] == "1.23M"


def test_on_a_terminal_nothing_that_agents_wrote_is_markup_or_control_and_colours_can_be_left_out(recorded):
    coloured, plain = on_terminal(recorded), on_terminal(recorded, NO_COLOR="1")
    colour = re.compile(r"\x1b\[(?:[0-9]+;)*(?:3[0-9]|9[0-7])(?:;[0-9]+)*m")
    assert colour.search(coloured)
    assert not colour.search(plain)
    for shown in (coloured, plain):
        assert "[bold red]x[/] \\u001b[31m" in shown
        assert [it for it in ("\x1b[31m\x1b", "\x1b]8", "\x07", "\u202e") if it in shown] == []
        assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in shown.split("\r\n")) <= 80
    assert "\x1b" not in recorded.ok("stats", *DAYS)


def test_an_encoding_without_blocks_gets_other_marks(recorded):
    done = subprocess.run(
        [*COMMAND, "stats", *DAYS],
        env={**os.environ, "LEDGER_URL": recorded.url, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
    )
    text = done.stdout.decode("latin-1")
    assert line_of(text, "sessions  ")[1] == "______#"
    assert [line for line in text.splitlines() if "\\u2" in line and "bold red" not in line] == []


def test_days_and_their_number_are_chosen(recorded):
    found = recorded.json("stats", "--since", "2026-03-05", "--until", "2026-03-06")
    assert (found["current"]["first_day"], found["before"]["first_day"]) == ("2026-03-05", "2026-03-04")
    found = recorded.json("stats", "--days", "8", *DAYS)
    assert (found["current"]["first_day"], found["current"]["session_count"]) == ("2026-02-26", 3)


@pytest.mark.parametrize(
    "options",
    [
        ("--since", "yesterday"),
        ("--until", "2026-11-30T10:00:00Z"),
        ("--until", "0001-01-01"),
        ("--days", "0"),
        ("--days", "3", "--since", "2026-03-01"),
    ],
)
def test_other_days_are_refused(recorded, options):
    assert recorded.fails("stats", *options)[0] == USAGE


def test_a_period_that_ends_before_it_begins_or_before_the_first_year_is_refused(recorded):
    assert "must be before --until" in recorded.fails("stats", "--since", "2026-03-05", "--until", "2026-03-05")[1]
    assert "before the year 1" in recorded.fails("stats", "--since", "0001-02-01", "--until", "0001-03-01")[1]


def test_many_tools_and_days_are_told_in_short(shell):
    clock = SetClock()
    with SessionLedger.open(shell.url, clock=clock, ids=CountedIds(), relay="off") as ledger:
        ledger.create_session("ada", "q", fields={"tool_calls": [f"tool{number:02}" for number in range(25)]})
    text = shell.ok("stats", "--days", "300", *DAYS)
    assert "10 of 25; --json has all" in text
    assert len(re.findall(r"tool[0-9]{2}", text)) == 10
    assert len(line_of(text, "sessions  ")[1]) == 50
    assert len(json.loads(shell.ok("stats", *DAYS, "--json"))["current"]["tools"]) == 25


@pytest.mark.emulator
def test_a_ledger_in_bigquery_has_the_same_numbers(
    emulator: Emulator, bigquery_dataset: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for name, value in environment(emulator).items():
        monkeypatch.setenv(name, value)
    told = []
    for url in (f"bigquery://{emulator.project}/{bigquery_dataset}", f"sqlite:///{tmp_path}/l.db"):
        shell = Shell(tmp_path / "l.db")
        shell.ok("--url", url, "init")
        sid = shell.ok("--url", url, "new", "How many?").strip()
        shell.ok("--url", url, "message", sid, "user", "hi")
        shell.ok("--url", url, "tool", sid, "sql", "failed")
        shell.ok("--url", url, "model-call", sid, "small", "--input-tokens", "12", "--cost-usd", "0.5")
        told.append(shell.json("--url", url, "stats")["current"])
        assert line_of(shell.ok("--url", url, "stats"), "cost") == ["cost", "$0.50", "-", "-"]
    for totals in told:
        for name in ("session_duration_p50_ms", "session_duration_p95_ms"):  # by the clock of this machine
            del totals[name]
    assert told[0] == told[1]
    assert (told[0]["message_count"], told[0]["input_token_count"], told[0]["failed_tool_call_count"]) == (1, 12, 1)
