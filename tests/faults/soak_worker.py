"""One process of a soak: it loads all there is to load, says ``ready``, and then does what one line tells it to.

    {"do": "append", "url": ..., "warehouse": null, "worker": 3, "sessions": [...], "pace": 0.01, "each": null,
     "resend": [...], "drain": 0}
    {"do": "relay", "url": ..., "warehouse": ..., "lease": 1.0, "age": 0.05, "batch_rows": 50}
    {"do": "command", "arguments": ["sync", "--warehouse", ...]}

SIGTERM ends it in order; the end of its standard input, which is that of whoever started it, at once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from ledger import Change, SessionLedger
from ledger.model.ids import event_id_for
from ledger.relay.background import run
from ledger.tiers.opening import relay_between
from ledger.warehouse.bigquery.sink import BigQuerySink
from ledger.warehouse.urls import open_warehouse

#: What takes long to load, now, so that orders are followed at once.
for _name in (
    "google.cloud.bigquery",
    "google.cloud.bigquery_storage_v1",
    "ledger.cli.commands.reconcile",
    "ledger.cli.commands.transfer",
):
    import_module(_name)

USER = "ada"
THREADS = 2
#: Of each hundred events of a thread, those that come without a pause.
BURST = 40


def say(**what: Any) -> None:
    """One line to whoever started this process, whole or not at all: they are shorter than a pipe's unit."""
    os.write(1, (json.dumps(what) + "\n").encode())


class Appender:
    """Appends to sessions from two threads; every event follows from its token, so that it can be sent again.

    A token is ``sessions-worker-thread-number``: of so many sessions at the time, one is drawn.
    """

    def __init__(self, orders: dict[str, Any], stop: threading.Event) -> None:
        self._orders = orders
        self._stop = stop
        self._sessions: Sequence[str] = orders["sessions"]
        self._ledger = SessionLedger.open(
            orders["url"], warehouse=orders["warehouse"], relay="background" if orders["warehouse"] else "off"
        )

    def run(self) -> None:
        """Begin the sessions that are not there, send what got no answer again, and go on until told to stop."""
        for session_id in self._sessions:
            self._begin(session_id)
        for token in self._orders["resend"]:
            self._one(token)
        threads = [threading.Thread(target=self._work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._ledger.close(drain=self._orders["drain"])

    def _work(self, thread: int) -> None:
        """Append in bursts with pauses; or, where it is said how many, so many at a steady pace, and then no more."""
        chance = random.Random(f"{self._orders['worker']} {thread}")
        pace, each = self._orders["pace"], self._orders["each"]
        number, began = 0, time.monotonic()
        while not self._stop.is_set() and number != each:
            self._one(f"{len(self._sessions)}-{self._orders['worker']}-{thread}-{number}")
            number += 1
            if each is not None:
                self._stop.wait(max(0, began + number * pace - time.monotonic()))
            elif number % 100 >= BURST:
                self._stop.wait(pace * chance.uniform(0, 2))
        self._stop.wait()

    def _begin(self, session_id: str) -> None:
        """The same call each time: a session that has begun is found by it."""
        given = f"begin {session_id}"
        self._told(
            "",
            lambda: (
                self._ledger.create_session(USER, f"q of {session_id}", session_id=session_id, event_id=given),
                event_id_for(given, USER),
                1,
            ),
        )

    def _one(self, token: str) -> None:
        chance = random.Random(token)
        session_id = self._sessions[chance.randrange(int(token.partition("-")[0]))]
        given = chance.choice([None, None, f"key {token}", str(uuid.UUID(int=chance.getrandbits(128), version=4))])
        envelope: Any = {} if given is None else {"event_id": given}
        if chance.random() < 0.2:
            envelope["actor"] = f"agent {chance.randrange(9)}"
        append = chance.choices(
            [self._title, self._fields, self._rows, self._message, self._tool_call, self._large, self._alone],
            [20, 15, 10, 20, 10, 1, 1],
        )[0]
        self._told(token, lambda: append(session_id, token, random.Random(f"{token} content"), envelope))
        if given is not None and chance.random() < 0.05:  # as callers do whose answer was lost
            self._told(token, lambda: append(session_id, token, random.Random(f"{token} content"), envelope))

    def _told(self, token: str, append: Callable[[], tuple[str, str, int]]) -> None:
        """Append, and say what was acknowledged and how long that took."""
        began = time.perf_counter()
        try:
            session_id, event_id, version = append()
        except BaseException:
            say(error=traceback.format_exc()[-3000:], token=token)
            raise
        say(token=token, event=[session_id, event_id, version], ms=(time.perf_counter() - began) * 1000)

    def _title(self, session_id: str, token: str, chance: random.Random, envelope: Any) -> tuple[str, str, int]:
        done = self._ledger.update_session(session_id, {"title": f"{token} ä\n{chance.random()}"}, **envelope)
        return done.session_id, done.event_id, done.version

    def _fields(self, session_id: str, token: str, chance: random.Random, envelope: Any) -> tuple[str, str, int]:
        values = {"summary": None if chance.random() < 0.3 else token, "tag": {f"t{chance.randrange(5)}": True}}
        done = self._ledger.update_session(session_id, {**values, "strategy": {"of": token}}, **envelope)
        return done.session_id, done.event_id, done.version

    def _rows(self, session_id: str, token: str, chance: random.Random, envelope: Any) -> tuple[str, str, int]:
        count = chance.choice([2, 5, 12, 40])
        changes = [Change("context", f"k{number}", [token, chance.random(), number]) for number in range(count)]
        done = self._ledger.append(session_id, "plan.approved", changes, **envelope)
        return done.session_id, done.event_id, done.version

    def _message(self, session_id: str, token: str, chance: random.Random, envelope: Any) -> tuple[str, str, int]:
        said = {"text": token * chance.randrange(1, 30), "n": chance.randrange(2**60)}
        done = self._ledger.add_message(session_id, chance.choice(["user", "assistant"]), said, **envelope)
        return done.session_id, done.event_id, done.version

    def _tool_call(self, session_id: str, token: str, chance: random.Random, envelope: Any) -> tuple[str, str, int]:
        call = f"call {chance.randrange(4)}"
        done = self._ledger.update_tool_call_status(session_id, call, "running", {"of": token}, **envelope)
        return done.session_id, done.event_id, done.version

    def _large(self, session_id: str, token: str, chance: random.Random, envelope: Any) -> tuple[str, str, int]:
        text = token * (chance.randrange(20_000, 300_000) // len(token))
        done = self._ledger.append(session_id, "result.stored", [Change("result", token, text)], **envelope)
        return done.session_id, done.event_id, done.version

    def _alone(self, session_id: str, token: str, chance: random.Random, envelope: Any) -> tuple[str, str, int]:
        """A session of its own, whose id the SDK makes."""
        given = envelope.get("event_id") or str(uuid.UUID(int=chance.getrandbits(128), version=4))
        made = self._ledger.create_session(USER, token, event_id=given)
        return made, event_id_for(given, USER), 1


def ship(orders: dict[str, Any], stop: threading.Event) -> None:
    """Be a relay until told to stop."""
    BigQuerySink.batch_rows = orders["batch_rows"]  # so that what waits is more than a batch
    with SessionLedger.open(orders["url"], create=False) as ledger:
        relay = relay_between(ledger.store, open_warehouse(orders["warehouse"]), lease_seconds=orders["lease"])
        run(relay, stop, age=orders["age"])
        relay.close()


def _end_with_parent() -> None:
    while os.read(0, 1):  # not by sys.stdin: a thread that waits in there may not be left behind at the end
        pass
    os._exit(3)


def main() -> None:
    """Load, say so, wait for orders, and follow them."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    say(ready=True)
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 1_000_000)
        if not more:
            return
        line += more
    orders = json.loads(line)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if orders["do"] == "append":
        Appender(orders, stop).run()
    elif orders["do"] == "relay":
        ship(orders, stop)
    else:
        from ledger.cli import main as command

        sys.argv = ["ledger", *orders["arguments"]]
        command()


if __name__ == "__main__":
    main()
