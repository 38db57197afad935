"""Several processes on one file: stopped, killed, forked, all at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faults import kill
from ledger import Change, NewEvent, SessionLedger, StoreUnavailable
from ledger.clock import new_id, utc_now
from ledger.model.integrity import verify
from ledger.stores.sqlite.store import SqliteStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and fork")

APPEND = """
import sys
from ledger import SessionLedger
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with SessionLedger.open(f"sqlite:///{path}") as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    for step in range(count):
        print(ledger.update_session("shared", {"context": {name: step}}).version, flush=True)
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db") as ledger:
        ledger.create_session("ada", "q", session_id="shared")
    return tmp_path / "l.db"


def test_processes_that_append_at_once_leave_no_gap_and_lose_nothing(path):
    processes = [start(APPEND, path, f"p{number}", 60) for number in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in processes]
    assert [errors for _, errors in answers] == [""] * 4
    versions = sorted(int(line) for output, _ in answers for line in output.split())
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        events = ledger.history("shared")
        assert versions == list(range(2, 242)) == [event.version for event in events[1:]]
        assert verify(events) == 241
        assert ledger.get_session("shared").context == {f"p{number}": 59 for number in range(4)}


def test_processes_that_open_a_new_file_at_once_all_get_it(tmp_path):
    program = """
import sys
from ledger import SessionLedger
print("ready", flush=True)
sys.stdin.readline()
with SessionLedger.open(f"sqlite:///{sys.argv[1]}") as ledger:
    ledger.create_session("ada", "q")
    print(ledger.store.store_id)
"""
    processes = [start(program, tmp_path / "l.db") for _ in range(6)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in processes]
    assert [errors for _, errors in answers] == [""] * 6
    assert len({output for output, _ in answers}) == 1
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db") as ledger:
        assert len(ledger.list_sessions()) == 6


def test_what_a_killed_process_had_acknowledged_is_there(tmp_path):
    assert kill.run(int(os.environ.get("LEDGER_TEST_KILLS", "5")), folder=tmp_path) > 0


def test_a_reader_sees_what_another_process_appended_though_it_has_read_before(path):
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        assert ledger.get_session("shared").version == 1
        for version in (2, 3):
            process = start(APPEND, path, "other", 1)
            assert process.communicate("go\n", timeout=30)[0].split() == ["ready", str(version)]
            assert ledger.get_session("shared").version == version


HOLD = """
import sys
from datetime import UTC, datetime
from ledger import Change, NewEvent
from ledger.stores.sqlite.store import SqliteStore

def clock():
    if armed:
        print("holding", flush=True)
        sys.stdin.readline()  # in the midst of its transaction
    return datetime.now(UTC)

armed = False
store = SqliteStore(sys.argv[1], clock=clock)
armed = True
done = store.append("shared", NewEvent("a.b", [Change("title", value="held")], "held-1"))
armed = False
print(done.version, flush=True)
store.close()
"""


def new_event(title: str) -> NewEvent:
    return NewEvent("a.b", [Change("title", value=title)], new_id(utc_now()))


def test_while_a_stopped_process_has_the_turn_others_give_up_in_time_and_go_on_after_it(path):
    holder = start(HOLD, path)
    assert holder.stdout.readline() == "holding\n"
    holder.send_signal(signal.SIGSTOP)
    store = SqliteStore(path, wait=0.3)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="nothing was written"):
        store.append("shared", new_event("refused"))
    assert time.monotonic() - began < 3
    assert store.state("shared")[0].version == 1, "readers do not wait"
    holder.send_signal(signal.SIGCONT)
    output, errors = holder.communicate("go\n", timeout=30)
    assert (output, errors) == ("2\n", "")
    assert store.append("shared", new_event("later")).version == 3
    store.close()


def test_a_process_killed_in_the_midst_of_its_turn_leaves_nothing_and_blocks_nobody(path):
    holder = start(HOLD, path)
    assert holder.stdout.readline() == "holding\n"
    holder.kill()
    holder.communicate()
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        assert ledger.update_summary("shared", "next").version == 2


def in_child(act: Callable[[], None]) -> int:
    """Fork, act, and return the pid; the child ends without running anybody's clean-up."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - a child never goes on as a second test run
            sys.stderr.write(f"child: {error!r}\n")
            os._exit(1)
        os._exit(0)
    return pid


def test_a_forked_child_and_its_parent_both_append(path):
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        assert ledger.get_session("shared").version == 1

        def append() -> None:
            for step in range(20):
                ledger.update_session("shared", {"context": {f"child{step}": step}})

        children = [in_child(append) for _ in range(2)]
        for step in range(20):
            ledger.update_session("shared", {"context": {f"parent{step}": step}})
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0]
        events = ledger.history("shared")
        assert [event.version for event in events] == list(range(1, 62))
        assert verify(events) == 61


def test_what_a_forked_child_appends_after_its_parent_closed_is_kept(path):
    ledger = SessionLedger.open(f"sqlite:///{path}")
    assert ledger.get_session("shared").version == 1
    ready, closed = os.pipe(), os.pipe()

    def append_after_close() -> None:
        ledger.update_summary("shared", "before")
        os.write(ready[1], b"1")
        os.read(closed[0], 1)
        for _ in range(5):
            ledger.update_summary("shared", "after")

    pid = in_child(append_after_close)
    os.read(ready[0], 1)
    ledger.close()
    os.write(closed[1], b"1")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for end in (*ready, *closed):
        os.close(end)
    with SessionLedger.open(f"sqlite:///{path}") as again:
        assert again.get_session("shared").version == 7


def test_a_ledger_opened_in_a_forked_child_is_its_own(path):
    with SessionLedger.open(f"sqlite:///{path}") as ledger:

        def use_another() -> None:
            with SessionLedger.open(f"sqlite:///{path}") as own:
                own.update_summary("shared", "from the child")

        pid = in_child(use_another)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert ledger.update_summary("shared", "from the parent").version == 3
