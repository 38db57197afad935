"""A proxy between Google's BigQuery clients and the emulator that counts the requests and makes some of them fail.

    plan = Script({"POST insertAll": {1: "lost_answer"}})   # or Plan(seed=1, rate=0.2)
    with proxy(emulator.rest, emulator.grpc, plan) as p, connect(p.rest, p.grpc) as through: ...

A request is named ``"POST query"``, ``"GET getQueryResults"``, ``"POST insertAll"``, ``"GET table"`` (see
`proxy_rest.name`), or after its gRPC method, ``"CreateWriteStream"``. ``"AppendRows"`` is one message of a stream.
The kinds of faults, and which requests they can strike, are in `KINDS`.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from faults import proxy_grpc, proxy_rest

_BEFORE = ("delay", "unavailable", "quota", "reset_before", "lost_answer")

KINDS: Mapping[str, tuple[str, ...]] = {
    # unavailable: 503 backendError. quota: 429 rateLimitExceeded; rate_403 and quota_403: 403 rateLimitExceeded and 403
    # quotaExceeded. reset_before and lost_answer: a TCP reset before the emulator sees the request, or after it has
    # answered. cut_answer: half of the body, then the end.
    "REST": (*_BEFORE, "rate_403", "quota_403", "cut_answer"),
    # unavailable: UNAVAILABLE. quota: RESOURCE_EXHAUSTED. internal: INTERNAL. reset_before: ABORTED, all of them before
    # the emulator sees the request. lost_answer: UNAVAILABLE after it has answered.
    "gRPC": (*_BEFORE, "internal"),
    # As above, and the stream is over. close: it ends with OK and the request is not forwarded. error_in_response and
    # quota_in_response: a response with error 14 or 8, the request is not forwarded and the stream goes on.
    "AppendRows": (*_BEFORE, "internal", "close", "error_in_response", "quota_in_response"),
}
#: What no repetition mends, and only a script strikes with. refused_in_response: a response with error 3 that names no
#: row. too_large: the stream ends with INVALID_ARGUMENT.
FINAL: Mapping[str, tuple[str, ...]] = {"AppendRows": ("refused_in_response", "too_large")}
ALL = tuple(sorted({kind for kinds in KINDS.values() for kind in kinds}))


def side(request: str) -> str:
    """`REST` or `gRPC`: only the former's names have a method in front."""
    return "REST" if " " in request else "gRPC"


def possible(request: str) -> tuple[str, ...]:
    """The kinds of faults that can strike this request."""
    return KINDS.get(request) or KINDS[side(request)]


@dataclass(frozen=True, slots=True)
class Injected:
    """One fault: what struck which request.

    ``number`` counts, from 1, all requests that came while the plan was on.
    """

    number: int
    side: str
    method: str
    kind: str


class Faults:
    """What a plan and a script share: off and on, and the log of what was injected. This one injects nothing."""

    def __init__(self, *, delay: float = 0.02) -> None:
        self.delay = delay
        self.log: list[Injected] = []
        self._seen: Counter[str] = Counter()
        self._on = True
        self._lock = threading.Lock()

    def on(self) -> None:
        self._on = True

    def off(self) -> None:
        """From now on nothing is injected, nor counted: after `on()` the plan goes on where it was."""
        self._on = False

    def strike(self, request: str) -> str | None:
        """The kind of fault this request gets, if any."""
        with self._lock:
            if not self._on:
                return None
            self._seen[request] += 1
            kind = self._choose(request, self._seen[request])
            if kind:
                self.log.append(Injected(self._seen.total(), side(request), request, kind))
            return kind

    def _choose(self, request: str, nth: int) -> str | None:
        return None


class Plan(Faults):
    """Strikes requests at random; the n-th request of a name meets the same fate whenever the seed is the same.

    Args:
        seed: Every draw is seeded with it, the name and n, so that threads that take turns differently change nothing.
        rate: The share of requests to strike, 0 to 1.
        kinds: What to strike with; a request draws among those that are possible for it.
        delay: Seconds that `delay` takes.
    """

    def __init__(self, seed: int, rate: float, kinds: Iterable[str] = ALL, *, delay: float = 0.02) -> None:
        super().__init__(delay=delay)
        self.seed, self.rate, self.kinds = seed, rate, frozenset(kinds)
        if unknown := self.kinds.difference(ALL):
            raise ValueError(f"no such faults: {sorted(unknown)}")

    def _choose(self, request: str, nth: int) -> str | None:
        chance = random.Random(f"{self.seed} {request} {nth}")
        kinds = [kind for kind in possible(request) if kind in self.kinds]
        return chance.choice(kinds) if chance.random() < self.rate and kinds else None


class Script(Faults):
    """Strikes the n-th request of a name, from 1, with the fault given: ``{"AppendRows": {2: "lost_answer"}}``."""

    def __init__(self, faults: Mapping[str, Mapping[int, str]], *, delay: float = 0.02) -> None:
        super().__init__(delay=delay)
        self.faults = faults
        for request, kinds in faults.items():
            if unknown := set(kinds.values()).difference(possible(request), FINAL.get(request, ())):
                raise ValueError(f"{request} cannot be struck with {sorted(unknown)}")

    def _choose(self, request: str, nth: int) -> str | None:
        return self.faults.get(request, {}).get(nth)


class Proxy:
    """A running proxy."""

    rest: str  # http://host:port
    grpc: str  # host:port

    def __init__(self, plan: Faults) -> None:
        self.plan = plan
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    @property
    def counts(self) -> Counter[str]:
        """How many requests came, by name, struck or not; a copy, so that two can be subtracted.

        "AppendRows" counts messages and "AppendRows connection" the streams that carried them.
        """
        with self._lock:
            return self._counts.copy()

    def count(self, request: str) -> None:
        with self._lock:
            self._counts[request] += 1

    def admit(self, request: str) -> str | None:
        """Count a request; the fault its side has to make, once any delay is over."""
        self.count(request)
        kind = self.plan.strike(request)
        if kind == "delay":
            # What still waits when the proxy stops must not reach the emulator behind the test's back.
            return "reset_before" if self._stopping.wait(self.plan.delay) else None
        return kind

    def stop(self) -> None:
        """End the delays that are being waited out."""
        self._stopping.set()


@contextlib.contextmanager
def proxy(
    rest_url: str, grpc_address: str, plan: Faults | None = None, *, again: Proxy | None = None
) -> Iterator[Proxy]:
    """Run a proxy; when it is left, connections that are still open are cut, and further ones refused.

    Args:
        again: One that has been left, whose ports are used again; else they are random.
    """
    running = Proxy(plan or Faults())
    ports = [0, 0] if again is None else [int(it.rpartition(":")[2]) for it in (again.rest, again.grpc)]
    with (
        proxy_rest.serve(rest_url, running.admit, ports[0]) as running.rest,
        proxy_grpc.serve(grpc_address, running.admit, running.count, ports[1]) as running.grpc,
    ):
        try:
            yield running
        finally:
            running.stop()
