"""A ledger in BigQuery that was used before a fork: parent and child go on, each over connections of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from support.bigquery_stores import Datasets, environment
from support.emulator import Emulator

pytestmark = pytest.mark.emulator

PROGRAM = """
import json, os, signal, sys
from ledger import Change, NewEvent
from ledger.clock import new_id, utc_now
from ledger.stores.urls import open_store

store = open_store(sys.argv[1], create=False, clock=utc_now, ids=new_id)

def append(name):
    event = NewEvent("test.made", [Change("tag", name, True)], new_id(utc_now()))
    return store.append("s", event).version

begin = NewEvent("test.begun", [Change("status", value="active")], new_id(utc_now()), user_id="ada")
store.append("s", begin, expected_version=0)
append("parent")
pid = os.fork()
if pid == 0:
    signal.alarm(60)  # ends the child if it hangs
    append("child")
    sys.exit(0)  # with the inherited connections, which must stay open
assert os.waitpid(pid, 0)[1] == 0, "the child hangs"
append("parent")
print(json.dumps([event.changes[0].key for event in store.events("s")]))
store.close()
"""

#: Another thread of the parent is in an append at each fork.
BUSY = """
import os, signal, sys, threading
from ledger import Change, NewEvent
from ledger.clock import new_id, utc_now
from ledger.stores.urls import open_store

store = open_store(sys.argv[1], create=False, clock=utc_now, ids=new_id)
sessions = [new_id(utc_now()), new_id(utc_now())]
forked, acknowledged = threading.Event(), [0]

def append(session, name):
    store.append(session, NewEvent("test.made", [Change("tag", name, True)], new_id(utc_now()), user_id="ada"))

def append_until_forked():
    while not forked.is_set():
        append(sessions[1], "thread")
        acknowledged[0] += 1

append(sessions[0], "parent")
thread = threading.Thread(target=append_until_forked)
thread.start()
exits = []
for number in range(6):
    while acknowledged[0] <= number:
        pass
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # ends the child if it hangs
        append(sessions[0], f"child {number}")
        os._exit(0)
    exits.append(os.waitpid(pid, 0)[1])
forked.set()
thread.join()
assert exits == [0] * 6, exits
assert len(list(store.events(sessions[0]))) == 7
assert len(list(store.events(sessions[1]))) == acknowledged[0]
store.close()
"""

#: Another thread of the parent creates a client for longer than a fork waits.
CONNECTING = """
import os, threading
from ledger import StoreRejected
from ledger.warehouse.bigquery.channels import GrpcClients

clients = GrpcClients()
begun, go_on = threading.Event(), threading.Event()

def create():
    begun.set()
    go_on.wait(60)
    return "client"

def use():
    with clients.use("name", create) as client:
        assert client == "client"

thread = threading.Thread(target=use)
thread.start()
begun.wait()
pid = os.fork()
if pid == 0:
    try:
        use()
    except StoreRejected as error:
        os._exit(0 if "connected to BigQuery" in str(error) else 1)
    os._exit(2)
assert os.waitpid(pid, 0)[1] == 0
go_on.set()
thread.join()
use()
"""


@pytest.mark.parametrize("hooks_of_grpc", ["0", "1"])
def test_children_append_whatever_another_thread_of_the_parent_did_at_the_fork(
    emulator: Emulator, datasets: Datasets, hooks_of_grpc: str
) -> None:
    done = run(BUSY, emulator, datasets, GRPC_ENABLE_FORK_SUPPORT=hooks_of_grpc)
    assert done.returncode == 0, done.stderr


def test_a_child_appends_and_reads_and_the_parent_goes_on(emulator: Emulator, datasets: Datasets) -> None:
    done = run(PROGRAM, emulator, datasets)
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)) == ["", "child", "parent", "parent"]


def test_a_child_of_a_parent_that_was_connecting_is_refused_and_the_parent_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", CONNECTING], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def run(program: str, emulator: Emulator, datasets: Datasets, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program over an empty dataset, whose URL is its argument."""
    with datasets.emptied("main") as place:
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, place.url],
            capture_output=True,
            text=True,
            timeout=240,
            env=os.environ | environment(emulator) | {"GRPC_VERBOSITY": "ERROR"} | variables,
            check=False,
        )
