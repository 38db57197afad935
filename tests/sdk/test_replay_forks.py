"""A replay in a child that was forked while another thread worked on its states."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork")

PROGRAM = """
import os, signal, sys, threading
from ledger import SessionLedger
from ledger.sdk.replaying import Replayed

with SessionLedger("sqlite:///" + sys.argv[1]) as ledger:
    sid = ledger.create_session("ada", "How many?", fields={"summary": "first"})
    ledger.update_session(sid, {"summary": "second", "title": "t", "question": None})
    first, second = ledger.history(sid)

states = Replayed({}, with_messages=False)
before = states.advance([first])
half, go = threading.Event(), threading.Event()

def halfway():
    yield second
    half.set()
    go.wait()

def shown(state):
    return sorted((register[0], held.value) for register, held in state.items())

thread = threading.Thread(target=states.advance, args=(halfway(),))
thread.start()
half.wait()
pid = os.fork()
if pid == 0:
    signal.alarm(30)  # ends the child if it hangs
    print("child:", shown(before), before["summary", ""].value, flush=True)
    print("child:", shown(states.advance([second])), shown(before) != [], flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0, "the child hangs"
go.set()
thread.join()
print("parent:", shown(before))
print("parent:", shown(states.advance([])))
"""


def test_a_child_reads_and_continues_states_that_another_thread_was_writing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path / "l.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    first = [("question", "How many?"), ("status", "active"), ("summary", "first")]
    second = [("status", "active"), ("summary", "second"), ("title", "t")]
    assert done.stdout.splitlines() == [
        f"child: {first} first",
        f"child: {second} True",
        f"parent: {first}",
        f"parent: {second}",
    ]
