"""At the limits of the machine: no descriptors, no disk, too many criteria, strange clocks, versions near 2^63."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger import ConfigurationError, InvalidInput, SessionLedger, StoreUnavailable
from ledger.formats.events import export_lines, import_lines
from ledger.model.queries import SearchQuery, SessionQuery
from ledger.model.search import Terms
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import SetClock, event


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db", default_ttl_hours=None, max_ttl_hours=None) as ledger:
        ledger.create_session("ada", "q", session_id="s")
    return tmp_path / "l.db"


# Descriptors

EXHAUSTED = """
import os, resource, sys
from ledger import LedgerError, SessionLedger
url, folder = sys.argv[1:]
ledger = SessionLedger.open(url)
session = ledger.get_session("s")
calls = {
    "open": lambda: SessionLedger.open(url),
    "create": lambda: SessionLedger.open(f"sqlite:///{folder}/new.db"),
    "append": lambda: ledger.update_summary("s", "x"),
    "backup": lambda: ledger.store.backup(f"{folder}/copy.db"),
}
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
for name, call in calls.items():
    try:
        call()
    except LedgerError as error:
        print(name, type(error).__name__, "too many open files" in str(error))
    else:
        print(name, "went through")
assert ledger.get_session("s").version == 1, "the reader is open already"
for descriptor in held:
    os.close(descriptor)
print("then", ledger.update_summary("s", "x").version)
print(sorted(os.listdir(folder)))
ledger.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits")
def test_without_descriptors_calls_fail_for_now_and_say_why(path, tmp_path):
    (tmp_path / "out").mkdir()
    program = [sys.executable, "-W", "error", "-c", EXHAUSTED, f"sqlite:///{path}", tmp_path / "out"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    *said, then, made = done.stdout.splitlines()
    assert said == [f"{name} StoreUnavailable True" for name in ("open", "create", "append", "backup")]
    assert then == "then 2"
    assert made == "[]"


# The disk, and max_bytes

MOUNTED = """
import subprocess, sys
from pathlib import Path
from ledger import LedgerError, SessionLedger

small = Path(sys.argv[1])

def room(kilobytes):
    size = f"size={kilobytes}k"
    how = ["-o", f"remount,{size}"] if small.is_mount() else ["-t", "tmpfs", "-o", size, "tmpfs"]
    subprocess.run(["mount", *how, str(small)], check=True)

def fill():
    count = 0
    while True:
        try:
            ledger.update_session("s", {"context": {f"k{count % 7}": str(count) * 500}})
        except LedgerError as error:
            return count, type(error).__name__
        count += 1

room(900)
ledger = SessionLedger.open(f"sqlite:///{small}/l.db")
ledger.create_session("ada", "q", session_id="s")
wal = small / "l.db-wal"
first, error = fill()
full = wal.stat().st_size
room(1400)
ledger.update_summary("s", "there is some room")
print(error, wal.stat().st_size < full / 4, ledger.get_session("s").version == first + 2)
"""


def test_a_little_room_on_a_full_disk_is_used_to_fold_the_log_in(tmp_path, unshared):
    """Else appends would use up what was freed, and the log would stay as large as it is."""
    done = subprocess.run(
        [*unshared, sys.executable, "-c", MOUNTED, tmp_path], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("StoreUnavailable True True\n", "")


UNREADABLE = """
import os, subprocess, sys
from click.testing import CliRunner
from ledger.cli.app import ledger

folder = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder], check=True)
os.environ["LEDGER_URL"] = f"sqlite:///{folder}/l.db"
run = lambda *args: CliRunner().invoke(ledger, args)
assert run("new", "q").exit_code == 0
fill = os.open(f"{folder}/fill", os.O_CREAT | os.O_WRONLY)
try:
    while os.write(fill, bytes(4096)):
        pass
except OSError:
    os.close(fill)
for args in (["list"], ["new", "q"], ["doctor"]):
    done = run(*args)
    print(args[0], done.exit_code, "the disk is full" in done.output, "restore a backup" in done.output)
os.unlink(f"{folder}/fill")
print("then", run("list").exit_code)
"""


def test_a_ledger_that_nobody_has_open_says_that_the_disk_is_full_if_it_is_read(tmp_path, unshared):
    command = [*unshared, sys.executable, "-c", UNREADABLE, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "list 21 True False",
        "new 21 True False",
        "doctor 1 True False",
        "then 0",
    ]


def test_the_log_is_folded_in_when_the_ledger_has_reached_its_maximum(tmp_path):
    store = SqliteStore(tmp_path / "l.db", max_bytes=200_000)
    version = 0

    def fill() -> None:
        nonlocal version
        while True:
            store.append("s", event(version, user_id="ada"))
            version += 1

    with pytest.raises(StoreUnavailable, match="maximum"):
        fill()
    assert (tmp_path / "l.db-wal").stat().st_size == 0
    assert store.state("s")[0].version == version
    store.close()


@pytest.mark.duckdb
@pytest.mark.parametrize("ending", ["archive_session", "delete_session"])
def test_sessions_can_be_archived_and_deleted_at_the_maximum_and_make_room(tmp_path, ending):
    url = f"sqlite:///{tmp_path}/l.db?max_bytes=300000"
    with SessionLedger.open(url, warehouse=f"duckdb:///{tmp_path}/w.duckdb") as ledger:
        ids = [ledger.create_session("ada", "q") for _ in range(5)]

        def fill() -> None:
            for number in range(10_000):
                ledger.add_message(ids[number % 5], "user", f"{number} " * 100)

        with pytest.raises(StoreUnavailable, match="maximum"):
            fill()
        for session_id in ids[1:]:
            assert getattr(ledger, ending)(session_id) is not None
        with pytest.raises(StoreUnavailable, match="maximum"):
            ledger.add_message(ids[0], "user", "not yet")
        ledger.warehouse.sync()
        done = ledger.maintain(retention=None if ending == "archive_session" else timedelta(0))
        assert done.dropped + done.deleted == 4
        ledger.add_message(ids[0], "user", "there is room")


# Criteria


def test_a_list_with_too_many_criteria_is_the_callers_mistake(path):
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        for count in (1_000, 40_000):
            with pytest.raises(InvalidInput, match="at most 500 criteria"):
                ledger.list_sessions(attributes={f"k{number}": number for number in range(count)})
        assert list(ledger.list_sessions(attributes={f"k{number}": number for number in range(400)})) == []
        for count in (10_001, 300_000):
            with pytest.raises(InvalidInput, match="at most 500 criteria"):
                ledger.store.sessions(SessionQuery(without=[f"w{number}" for number in range(count)]))


def test_a_search_takes_as_many_words_as_its_text_may_hold(path):
    words = [chr(0x4E00 + number) for number in range(500)]
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        ledger.add_message("s", "user", " ".join(words))
        assert len(ledger.store.search(SearchQuery(Terms.of(" ".join(words))), limit=10)) == 1


# Clocks


@pytest.mark.parametrize("year", [1, 1960, 1969])
def test_a_clock_before_1970_is_named(path, tmp_path, year):
    clock = SetClock(datetime(year, 12, 31, tzinfo=UTC))
    with pytest.raises(ConfigurationError, match=r"before 1970.*Set this machine's clock"):
        SessionLedger.open(f"sqlite:///{tmp_path}/new.db", clock=clock)
    assert not (tmp_path / "new.db").exists()
    with SessionLedger.open(f"sqlite:///{path}", clock=clock) as ledger:
        assert ledger.get_session("s").question == "q", "reading needs no clock"
        for call in (
            lambda: ledger.update_summary("s", "x"),
            lambda: ledger.create_session("ada", "q"),
            lambda: ledger.add_message("s", "user", "x"),
        ):
            with pytest.raises(ConfigurationError, match="before 1970"):
                call()


# Versions


def test_a_session_at_the_last_version_takes_no_more_events_and_says_so(path):
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        line = json.loads(next(iter(export_lines(ledger.store, ["s"]))))
        line |= {
            "session_id": "last",
            "store_id": "elsewhere",
            "version": 2**63 - 1,
            "event_hash": None,
            "prev_hash": None,
        }
        line["changes"] = [each | {"value_hash": None, "value_salt": None} for each in line["changes"]]
        import_lines(ledger.store, [json.dumps(line).encode() + b"\n"], unchained=True)
        with pytest.raises(InvalidInput, match="the last that can be stored"):
            ledger.update_summary("last", "x")
        assert ledger.get_session("last").version == 2**63 - 1
        assert ledger.update_summary("s", "x").version == 2
        for version in (2**63, -(2**63) - 1, 10**30):
            with pytest.raises(InvalidInput):
                ledger.get_session("s", version=version)
            with pytest.raises(InvalidInput):
                ledger.update_summary("s", "x", expected_version=version)
