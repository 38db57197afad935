"""AsyncSessionLedger in a child that was forked after its first use: it works there, or is refused at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork")

PREPARE = """
import asyncio, os, signal, sys, threading
from ledger import AsyncSessionLedger, SessionLedger, StoreRejected
from ledger.sdk.aio import _Once

def in_child(call):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # ends the child if it hangs
        print("child:", call(), flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the child hangs"

ledger = AsyncSessionLedger("sqlite:///" + sys.argv[1])

async def add(role):
    return (await ledger.add_message("s", "user", role)).version
"""


def run(tmp_path: Path, program: str) -> list[str]:
    """What a program prints that was forked in its midst."""
    command = [sys.executable, "-W", "ignore", "-c", PREPARE + program, str(tmp_path / "l.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_ledger_that_was_used_before_a_fork_works_in_the_child_and_in_the_parent(tmp_path: Path) -> None:
    program = """
async def begin():
    await ledger.create_session("ada", "q", session_id="s")
    return await asyncio.gather(*(add("parent") for _ in range(8)))

async def child():
    versions = await asyncio.gather(*(add("child") for _ in range(4)))
    view = ledger.for_user("ada")
    return max(versions), len(await view.get_messages("s")), await ledger.close()

asyncio.run(begin())
in_child(lambda: asyncio.run(child()))
in_child(lambda: asyncio.run(add("child")))
print("parent:", asyncio.run(add("parent")))
asyncio.run(ledger.close())
"""
    assert run(tmp_path, program) == ["child: (13, 12, 0)", "child: 14", "parent: 15"]


def test_a_child_opens_a_ledger_that_another_thread_was_opening(tmp_path: Path) -> None:
    program = """
makes, go = threading.Event(), threading.Event()

def make():
    makes.set()
    go.wait()
    return "made"

once = _Once(make)
thread = threading.Thread(target=once)
thread.start()
makes.wait()
in_child(lambda: (go.set(), once())[1])
go.set()
thread.join()
print("parent:", once())
"""
    assert run(tmp_path, program) == ["child: made", "parent: made"]


def test_an_iteration_that_was_opened_before_a_fork_goes_on_in_the_parent_alone(tmp_path: Path) -> None:
    program = """
async def begin():
    await ledger.create_session("ada", "q", session_id="s")
    events = await ledger.subscribe(after=0)
    return events, (await anext(events)).event.version

async def child(events):
    try:
        await anext(events)
    except StoreRejected as error:
        said = str(error)
    await events.aclose()
    async with ledger.subscribe(after=0) as another:
        return said[:55], (await anext(another)).event.version

async def parent(events):
    await add("parent")
    return (await anext(events)).event.version

events, _ = asyncio.run(begin())
in_child(lambda: asyncio.run(child(events)))
print("parent:", asyncio.run(parent(events)))
"""
    refused = "This iteration was opened before this process was forke"
    assert run(tmp_path, program) == [f"child: ('{refused}', 1)", "parent: 2"]
