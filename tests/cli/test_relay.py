"""The commands of the relay: sync, relay, status, and what they say and end with."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from ledger import SessionLedger, SessionNotFound, StoreUnavailable
from ledger.cli.commands.relay import _Line
from ledger.errors import CapabilityMissing, ConfigurationError
from support.shell import Shell


def damage(path: Path, version: int) -> None:
    """Make a value of a session unreadable, behind the ledger's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE session_events SET value = '{' WHERE version = ?", (version,))


def test_sync_ships_what_waits_and_status_says_so(shell: Shell, tmp_path: Path) -> None:
    session_id = shell.ok("new", "What?").strip()
    before = shell.json("status")
    assert before["waiting_rows"] == 2
    assert before["waiting_since"] is not None
    assert before["shipped_rows"] == 0
    assert shell.ok("sync").endswith("/ledger.duckdb; 0 rows waiting.\n")
    shell.ok("set", session_id, "summary", "That.")
    assert shell.json("sync")["sent_rows"] == 1
    after = shell.json("status")
    assert (after["waiting_rows"], after["waiting_since"], after["shipped_rows"]) == (0, None, 3)
    assert after["warehouse"] == f"duckdb:///{tmp_path / 'ledger.duckdb'}"


def test_status_promises_its_keys_and_reads_as_a_page(shell: Shell) -> None:
    shell.ok("new", "What?")
    assert list(shell.json("status")) == [
        *("warehouse", "waiting_rows", "waiting_since", "shipped_rows", "shipped_at", "rows_per_second"),
        *("refused_events", "last_error", "failed_at", "holder", "disk_bytes", "dismissed_events", "sessions"),
        *("unreconciled", "archived_elsewhere"),
    ]
    page = shell.ok("status")
    assert [line.split("  ")[0] for line in page.splitlines() if line[0] != " "] == [
        *("warehouse", "waiting", "shipped", "refused", "last error", "rate", "disk", "held by"),
    ]
    assert "2 rows, the oldest for " in page


def test_status_fails_if_a_row_has_waited_for_longer_than_it_may(shell: Shell) -> None:
    shell.ok("new", "What?")
    assert "has waited" not in shell.ok("status", "--max-age", "3600")
    late = shell("status", "--max-age", "0")
    assert late.exit_code == 1
    warehouse = f"duckdb:///{shell.path.with_suffix('.duckdb')}"
    assert late.stdout.endswith(
        "A row has waited for more than 0 s: see that a relay runs, and can ship.\n"
        f"  run: ledger sync --warehouse {warehouse}\n"
    )
    late = shell("status", "--max-age", "0", "--json")
    assert (late.exit_code, json.loads(late.stdout)["waiting_rows"]) == (1, 2)
    shell.ok("sync")
    assert "has waited" not in shell.ok("status", "--max-age", "0")
    assert shell("status", "--max-age", "nan").exit_code == 2


def test_a_refused_event_is_told_by_code_status_and_list_and_sent_again(shell: Shell) -> None:
    session_id = shell.ok("new", "What?").strip()
    shell.ok("set", session_id, "summary", "\x1b[31mred")
    shell.ok("set", session_id, "title", "T")
    damage(shell.path, 2)
    answer = shell("sync")
    assert answer.exit_code == 1
    assert "3 rows shipped" in answer.stdout
    assert "1 event refused; see `ledger relay dead-letters`." in answer.stdout
    assert shell("status").exit_code == 1
    (refused,) = json.loads(shell("relay", "dead-letters", "--json").stdout)["refused"]
    assert (refused["session_id"], refused["version"], refused["rows"], refused["asked"]) == (session_id, 2, 1, False)
    assert session_id[:8] in shell.ok("relay", "dead-letters")
    with closing(sqlite3.connect(shell.path)) as connection, connection:
        connection.execute("UPDATE session_events SET value = '\"mended\"' WHERE version = 2")
    assert shell.ok("relay", "redrive", refused["event_id"]).startswith("1 row to be shipped again")
    assert shell.json("sync")["sent_rows"] == 1
    assert shell.json("sql", "SELECT summary FROM sessions")["rows"] == [{"summary": "mended"}]
    assert shell.json("relay", "redrive") == {"asked_rows": 0}


def test_a_dismissed_event_is_listed_and_counts_no_more_until_it_is_redriven(shell: Shell) -> None:
    session_id = shell.ok("new", "What?").strip()
    shell.ok("set", session_id, "summary", "lost")
    damage(shell.path, 2)
    assert shell("sync").exit_code == 1
    shell.ok("delete", session_id)
    assert shell("sync").exit_code == 1
    held_up = shell("maintain", "--retention-days", "0")
    assert (held_up.exit_code, "0 deleted; 1 held up.\n" in held_up.stdout) == (1, True)
    assert "ledger relay dead-letters" in held_up.stdout
    (letter,) = shell.json("relay", "dead-letters")["refused"]
    assert shell.ok("relay", "dismiss", letter["event_id"]) == "1 event dismissed; 0 rows waiting.\n"
    assert shell.json("relay", "dismiss", letter["event_id"]) == {"dismissed_events": 1}
    (letter,) = shell.json("relay", "dead-letters")["refused"]
    assert (letter["dismissed"], letter["redriving"]) == (True, False)
    assert shell.json("sync")["dismissed_events"] == 1
    assert "0 events, 1 dismissed" in shell.ok("status")
    assert shell.ok("reconcile").endswith("nothing differs. 1 event dismissed.\n")
    assert shell.json("relay", "redrive") == {"asked_rows": 0}
    assert shell.json("relay", "redrive", letter["event_id"]) == {"asked_rows": 1}
    assert shell.json("relay", "dismiss", letter["event_id"]) == {"dismissed_events": 0}, "it is to be sent again"
    assert shell("sync").exit_code == 1
    shell.ok("relay", "dismiss", letter["event_id"])
    assert shell.json("maintain", "--retention-days", "0")["deleted"] == 1
    assert shell.json("relay", "dead-letters") == {"refused": []}
    assert shell.json("status")["dismissed_events"] == 0


def test_dead_letters_and_redrive_have_their_former_names_as_well(shell: Shell) -> None:
    session_id = shell.ok("new", "What?").strip()
    damage(shell.path, 1)
    assert shell("sync").exit_code == 1
    listed = shell.json("relay", "dead-letters")
    assert listed["refused"][0]["session_id"] == session_id
    assert shell.json("relay", "refused") == listed
    assert shell.json("relay", "retry") == {"asked_rows": 2}
    assert shell.json("relay", "redrive") == {"asked_rows": 0}


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("sync", "--warehouse", "nowhere"), 12, "bigquery://PROJECT/DATASET"),
        (("sync", "--warehouse", "duckdb:///"), 12, "duckdb:///ledger.duckdb"),
        (("sync", "--warehouse", "bigquery://my-project/agents?transport=insertall"), 12, "Storage Write"),
        (("--url", "bigquery://my-project/agents", "sync"), 11, "stored in a warehouse"),
        (("relay", "dead-letters", "EVENT"), 2, "EVENT_ID is an argument of `redrive` and `dismiss`"),
        (("relay", "dismiss"), 2, "Name at least one EVENT_ID"),
        (("relay", "dismiss", "nowhere"), 3, "has refused no event 'nowhere'; list those that it has"),
        (("relay", "refused", "EVENT"), 2, "EVENT_ID is an argument of `redrive`"),
        (("relay", "walk"), 2, "walk"),
        (("relay", "--age", "nan"), 2, "'nan'"),
        (("relay", "--drain", "inf"), 2, "3600"),
        (("relay", "redrive", "\udcff"), 3, "event_id"),
        (("relay", "redrive", "nowhere"), 3, "has refused no event 'nowhere'; list those that it has"),
        (("status", "--warehouse", "duckdb:///\udcff"), 12, "UTF-8"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(shell: Shell, command, code, words) -> None:
    shell.ok("init")
    found, message = shell.fails(*command)
    assert found == code
    assert words in message


def test_a_relay_ships_what_others_append_and_drains_when_it_is_told_to_end(shell: Shell, tmp_path: Path) -> None:
    shell.ok("new", "first")
    command = [
        str(Path(sys.executable).with_name("ledger")),
        "--url",
        f"sqlite:///{shell.path}",
        "relay",
        "--age",
        "0.05",
        "--json",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert json.loads(process.stderr.readline())["message"].startswith("Shipping sqlite:///")
        session_id = shell.ok("new", "second").strip()
        deadline = time.monotonic() + 30
        while shell.json("status")["waiting_rows"] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert shell.json("status")["holder"].endswith(f"/{process.pid}")
        shell.ok("set", session_id, "title", "last")
        process.send_signal(signal.SIGTERM)
        said = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert process.returncode == 0
    assert said[-1]["message"] == "Stopped: 0 rows waiting."
    assert shell.json("status")["waiting_rows"] == 0
    assert shell.json("status")["holder"] is None


def test_a_relay_that_stood_by_ends_in_order(shell: Shell, tmp_path: Path) -> None:
    shell.ok("new", "first")
    with SessionLedger.open(shell.url) as ledger:
        ledger.store.outbox(f"duckdb:///{tmp_path / 'ledger.duckdb'}").acquire("elsewhere/1/x", 60)
    command = [str(Path(sys.executable).with_name("ledger")), "--url", shell.url, "relay", "--json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read().splitlines()
    assert process.returncode == 0
    assert json.loads(said[-1])["message"] == "Stopped: 2 rows waiting."


@pytest.mark.parametrize("closes", [True, False])
def test_a_program_that_ends_without_closing_ends_in_order(tmp_path: Path, closes: bool) -> None:
    url, place = f"sqlite:///{tmp_path / 'ledger.db'}", f"duckdb:///{tmp_path / 'shipped.duckdb'}"
    program = f"""
import atexit
from ledger import SessionLedger

ledger = SessionLedger.open({url!r}, warehouse={place!r}, relay="background")
if {closes}:
    atexit.register(lambda: print(ledger.close(drain=60)))
for number in range(40):
    ledger.create_session("ada", str(number))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    with SessionLedger.open(url, warehouse=place) as ledger:
        if closes:
            assert done.stdout == "0\n"
            assert ledger.warehouse.status().waiting_rows == 0
        ledger.warehouse.sync()
        assert ledger.warehouse.query("SELECT COUNT(*) AS n FROM session_events").rows == [(80,)]


def test_a_ledger_is_never_opened_as_its_own_warehouse(shell: Shell, tmp_path: Path) -> None:
    session_ids = [shell.ok("new", "What?").strip()]
    (tmp_path / "link.duckdb").symlink_to(shell.path)
    for name in (shell.path.name, f"{shell.path.name}-wal", f"{shell.path.name}-shm", "link.duckdb"):
        code, message = shell.fails("sync", "--warehouse", f"duckdb:///{tmp_path / name}")
        assert code == 12
        assert "is the ledger itself" in message
    assert shell.json("show", session_ids[0])["question"] == "What?"


def test_a_record_of_the_log_is_one_line_that_moves_no_cursor() -> None:
    record = logging.makeLogRecord({"msg": "one\x1b[31m\nERROR two", "levelname": "INFO"})
    assert _Line("%(levelname)s %(message)s").format(record) == "INFO one\\u001b[31m ERROR two"


def test_an_open_ledger_ships_in_the_background_and_says_what_is_left(tmp_path: Path) -> None:
    place = f"duckdb:///{tmp_path / 'shipped.duckdb'}"
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = SessionLedger.open(url, warehouse=place, relay="background")
    session_id = ledger.create_session("ada", "What?")
    assert ledger.close() == 0
    with SessionLedger.open(url, warehouse=place) as again:
        assert again.warehouse.status().shipped_rows == 2
        assert again.warehouse.query("SELECT session_id FROM sessions").rows == [(session_id,)]
        again.update_summary(session_id, "That.")
        assert again.close() == 0, "nothing ships in the background here"
    blocked = SessionLedger.open(url, warehouse=f"duckdb:///{tmp_path / 'no' / 'such.duckdb'}", relay="background")
    blocked.update_summary(session_id, "More.")
    assert blocked.close(drain=0.2) == 4


def test_a_session_that_is_only_in_the_warehouse_is_read_and_not_changed(tmp_path: Path) -> None:
    place = f"duckdb:///{tmp_path / 'shipped.duckdb'}"
    with SessionLedger.open(f"sqlite:///{tmp_path / 'one.db'}", warehouse=place) as one:
        session_id = one.create_session("ada", "What?")
        one.add_message(session_id, "user", "hello")
        one.warehouse.sync()
        there = one.get_session(session_id, messages=True)
    with SessionLedger.open(f"sqlite:///{tmp_path / 'two.db'}", warehouse=place) as two:
        here = two.get_session(session_id, messages=True)
        assert here is not None
        assert there is not None
        assert dict(here) == dict(there)
        assert [message.content for message in two.get_messages(session_id)] == ["hello"]
        assert [event.version for event in two.history(session_id)] == [1, 2]
        with pytest.raises(SessionNotFound, match="warehouse"):
            two.update_summary(session_id, "mine")


def test_settings_that_do_not_fit_are_refused_before_anything_is_made(tmp_path: Path, monkeypatch) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    for settings, error, words in (
        ({"relay": "background"}, ConfigurationError, "LEDGER_WAREHOUSE"),
        ({"relay": "sometimes", "warehouse": "duckdb:///x.duckdb"}, ConfigurationError, "off or background"),
        ({"warehouse": "postgres://x"}, ConfigurationError, "bigquery://PROJECT/DATASET"),
    ):
        with pytest.raises(error, match=words):
            SessionLedger.open(url, **settings)
    with pytest.raises(CapabilityMissing, match="stored in a warehouse"):
        SessionLedger.open("bigquery://my-project/agents", warehouse="duckdb:///x.duckdb")
    monkeypatch.setenv("LEDGER_WAREHOUSE", "duckdb:///x.duckdb")
    with (
        SessionLedger.open("bigquery://my-project/agents") as own,
        pytest.raises(ConfigurationError, match="its own warehouse"),
    ):
        _ = own.warehouse


def test_a_file_at_its_bound_takes_no_appends_and_still_ships(tmp_path: Path) -> None:
    place = f"duckdb:///{tmp_path / 'shipped.duckdb'}"
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}?max_bytes=240000", warehouse=place) as ledger:
        session_id = ledger.create_session("ada", "What?")
        appended = 0
        with contextlib.suppress(StoreUnavailable):
            while appended < 1000:
                ledger.add_message(session_id, "user", "x" * 5000)
                appended += 1
        with pytest.raises(StoreUnavailable, match="240,000 bytes"):
            ledger.update_summary(session_id, "That.")
        assert 10 < appended < 40
        assert ledger.warehouse.sync() == appended + 2
        assert len(ledger.get_messages(session_id)) == appended
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}") as unbound:
        unbound.add_message(session_id, "user", "fits")


@pytest.mark.parametrize("bound", ["0", "-1", "many", "1e9", "٣"])
def test_a_bound_that_is_no_number_is_refused(bound: str) -> None:
    with pytest.raises(ConfigurationError, match="max_bytes"):
        SessionLedger.open(f"sqlite:///l.db?max_bytes={bound}")
