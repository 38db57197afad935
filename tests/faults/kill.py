"""Kills a process that appends, at random moments, and checks that every append it had acknowledged is there.

Each round starts a process whose threads append to the sessions of one file and print a line after each append, kills
it (SIGKILL), reopens the file and compares. By hand: ``python tests/faults/kill.py --kills 50``.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ledger import SessionLedger
from ledger.model.events import RecordedEvent
from ledger.model.fold import fold
from ledger.model.integrity import verify

WRITER = """
import sys, threading
from ledger import SessionLedger

url, name, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
ledger = SessionLedger.open(url)
print("ready", flush=True)

def work(number):
    sid = ledger.create_session("ada", "q", session_id=f"{name}-{number}")
    step = 0
    while True:
        step += 1
        done = ledger.update_session(sid, {"attribute": {"step": step}, "context": {f"k{step}": "x" * (step % 700)}})
        sys.stdout.write(f"{sid} {done.version} {step}\\n")
        sys.stdout.flush()

for number in range(threads):
    threading.Thread(target=work, args=(number,)).start()
"""


def one_kill(path: Path, name: str, after: float, threads: int) -> dict[str, tuple[int, int]]:
    """Start, kill after so many seconds, and return the last (version, step) acknowledged of each session."""
    command = [sys.executable, "-c", WRITER, f"sqlite:///{path}", name, str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(after)
        process.kill()
        lines = process.stdout.read().split("\n")[:-1]  # a last line without an end was not printed whole
    acknowledged: dict[str, tuple[int, int]] = {}
    for line in lines:
        parts = line.split()
        if len(parts) == 3:
            version, step = int(parts[1]), int(parts[2])
            acknowledged[parts[0]] = max((version, step), acknowledged.get(parts[0], (0, 0)))
    return acknowledged


def check(path: Path, acknowledged: dict[str, tuple[int, int]]) -> int:
    """Compare the file with what was acknowledged; return how many appends that was."""
    with SessionLedger.open(f"sqlite:///{path}", create=False) as ledger:
        for session_id, (version, step) in acknowledged.items():
            events = whole_session(ledger, session_id)
            assert len(events) >= version, f"{session_id}: {version} acknowledged, {len(events)} there"
            assert events[version - 1].changes[0].value == step, f"{session_id}: another event at {version}"
    return sum(version for version, _ in acknowledged.values())


def whole_session(ledger: SessionLedger, session_id: str) -> list[RecordedEvent]:
    """Check a session's versions, hash chain, head and state; return its events."""
    events: list[RecordedEvent] = []
    after: str | None = "0"
    while after is not None:
        page = ledger.store.events(session_id, after=int(after), limit=5_000, upcast=False)
        events += page
        after = page.next
    assert [event.version for event in events] == list(range(1, len(events) + 1)), f"{session_id}: a gap"
    assert verify(events) == len(events), f"{session_id}: events without a hash"
    found = ledger.store.state(session_id, with_messages=True)
    assert found is not None, f"{session_id}: there are events and no head"
    head, state = found
    assert (head.version, head.event_hash) == (len(events), events[-1].event_hash), f"{session_id}: another head"
    assert state == fold(events), f"{session_id}: the state is not the fold of the events"
    return events


def run(kills: int, *, threads: int = 3, longest: float = 0.5, seed: int = 1, folder: Path) -> int:
    """Kill so many times; return how many acknowledged appends were checked."""
    chance = random.Random(seed)
    path = folder / "ledger.db"
    checked = 0
    everything: dict[str, tuple[int, int]] = {}
    for number in range(kills):
        everything |= one_kill(path, f"round{number}", chance.uniform(0, longest), threads)
        checked = check(path, everything)
    return checked


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--longest", type=float, default=0.5, help="seconds until the kill, at most")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        found = run(given.kills, threads=given.threads, longest=given.longest, seed=given.seed, folder=Path(made))
    print(f"{given.kills} kills (seed {given.seed}), {found:,} acknowledged appends, all there, no gap")
