"""A child that is forked while other threads hold locks, wait for events or ship rows: nothing of these hangs there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork")

PREPARE = """
import logging, os, signal, sys, threading, time
from ledger import SessionLedger, StoreRejected, forking

PATH = sys.argv[1]

def in_child(call):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # ends the child if it hangs
        print("child:", call(), flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the child hangs"

class Held:
    '''A thread that is in the midst of ``call`` for as long as the block lasts: ``enter`` is called in ``call``.'''

    def __init__(self, call):
        self.entered, self.leave = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=call, args=(self.enter,))

    def enter(self):
        if threading.current_thread() is self.thread:
            self.entered.set()
            self.leave.wait()

    def __enter__(self):
        self.thread.start()
        self.entered.wait()

    def __exit__(self, *raised):
        self.leave.set()
        self.thread.join()
"""


def run(tmp_path: Path, program: str) -> list[str]:
    """What a program prints that was forked in its midst."""
    command = [sys.executable, "-W", "ignore", "-c", PREPARE + program, str(tmp_path / "l")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_lock_that_another_thread_holds_is_free_in_the_child_and_held_in_the_parent(tmp_path: Path) -> None:
    program = """
guard = forking.Guard()

def hold(enter):
    with guard.lock:
        enter()

def child():
    with guard.lock:
        return guard.lock.locked()

with Held(hold):
    in_child(child)
    print("parent:", guard.lock.locked())
print("parent:", guard.lock.locked())
"""
    assert run(tmp_path, program) == ["child: True", "parent: True", "parent: False"]


def test_a_subscription_that_was_open_goes_on_in_parent_and_child_with_the_same_events(tmp_path: Path) -> None:
    program = """
ledger = SessionLedger.open(f"sqlite:///{PATH}.db")
ledger.create_session("ada", "q", session_id="s")
events = ledger.subscribe(after=0, timeout=30)
ended = ledger.subscribe(after=0)
ended.close()
ended_by_another = ledger.subscribe()
waiter = threading.Thread(target=lambda: list(ended_by_another))
waiter.start()
print("before:", next(events).event.version)

def child():
    ledger.add_message("s", "user", "child")
    ended_by_another.close()
    return next(events).event.event_type, list(ended), list(ended_by_another)

in_child(child)
print("parent:", waiter.is_alive(), next(events).event.version)
ended_by_another.close()
waiter.join()
"""
    assert run(tmp_path, program) == ["before: 1", "child: ('message.added', [], [])", "parent: True 2"]


def test_a_subscription_that_a_thread_is_closing_or_waits_for_can_be_used_in_the_child(tmp_path: Path) -> None:
    program = """
ledger = SessionLedger.open(f"sqlite:///{PATH}.db")
ledger.create_session("ada", "q", session_id="s")
events = ledger.subscribe(after=0, timeout=0.01)

def hold(enter):
    with events._closed._cond:  # as for a moment in a wait, and in close()
        enter()

with Held(hold):
    in_child(lambda: [delivery.event.version for delivery in events])
"""
    assert run(tmp_path, program) == ["child: [1]"]


def test_a_background_relay_starts_in_the_child_that_is_forked_while_another_thread_makes_a_relay(
    tmp_path: Path,
) -> None:
    program = """
from ledger.relay import background, telemetry

background.AGE = 0.05
make = telemetry.Instruments
ledger = SessionLedger.open(f"sqlite:///{PATH}.db", warehouse=f"duckdb:///{PATH}.duckdb", relay="background")
ledger.create_session("ada", "q", session_id="s")
while ledger.warehouse.status().waiting_rows:  # until the thread has imported everything
    time.sleep(0.01)
telemetry._SHARED.clear()

def hold(enter):
    def making():
        enter()
        return made
    made = make()
    telemetry.Instruments = making
    telemetry._program_instruments()

def child():
    telemetry.Instruments = make
    names = sorted(thread.name for thread in threading.enumerate())
    parent_ended.wait()
    ledger.add_message("s", "user", "child")
    return names, ledger.close(drain=60)

class Pipe:
    def __init__(self):
        self.reader, self.writer = os.pipe()
    def set(self):
        os.write(self.writer, b"!")
    def wait(self):
        os.read(self.reader, 1)

parent_ended = Pipe()
with Held(hold):
    closing = threading.Timer(0.2, lambda: (ledger.close(drain=60), parent_ended.set()))
    closing.start()
    in_child(child)
closing.join()
"""
    assert run(tmp_path, program) == ["child: (['MainThread', 'ledger-relay'], 0)"]


def test_a_background_relay_that_cannot_start_in_the_child_says_so_and_the_rows_wait(tmp_path: Path) -> None:
    program = """
from ledger.relay.background import BackgroundRelay

logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
parent = os.getpid()

class Relay:
    def sync(self, **settings):
        return 0
    def close(self):
        pass

def make():
    if os.getpid() != parent:
        raise StoreRejected("The file was open at the fork.")
    return Relay()

relay = BackgroundRelay(make, age=0.05)
relay.start()

def child():
    relay._thread.join()
    return relay.close(0)

in_child(child)
print("parent:", relay._thread.is_alive(), relay.close(10))
"""
    assert run(tmp_path, program) == [
        "WARNING No relay runs in this forked process: The file was open at the fork.",
        "child: True",
        "parent: True True",
    ]


@pytest.mark.parametrize(
    ("module", "opens", "use"),
    [
        ("session_states", "SessionLedger", 'session_states.save_session_state("t", {"topic": "sql"}) != ""'),
        ("analysis_sessions.single", "SessionStore", "type(single.get_session_store()).__name__"),
    ],
)
def test_a_drop_in_module_whose_ledger_another_thread_was_opening_works_in_the_child(
    module: str, opens: str, use: str, tmp_path: Path
) -> None:
    name = module.rpartition(".")[2]
    program = f"""
import importlib
os.environ["LEDGER_URL"] = f"sqlite:///{{PATH}}.db"
{name} = importlib.import_module("ledger.compat.{module}")
open_it = {name}.{opens}

def use():
    return {use}

def hold(enter):
    {name}.{opens} = lambda *given: (enter(), open_it(*given))[1]
    use()

with Held(hold):
    in_child(use)
print("parent:", use())
"""
    said = "True" if name == "session_states" else "SessionStore"
    assert run(tmp_path, program) == [f"child: {said}", f"parent: {said}"]
