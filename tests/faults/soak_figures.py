"""What happened in a soak, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Figures:
    """What happened; ``amid`` counts the kills that left a batch under way."""

    kills: Counter[str] = field(default_factory=Counter)
    amid: int = 0
    stops: int = 0
    taken_over: int = 0
    outages: int = 0
    restores: int = 0
    repairs: int = 0
    compared: Mapping[str, int] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    turned_away: int = 0
    seconds: float = 0.0
    milliseconds: Mapping[str, list[float]] = field(default_factory=dict)

    def __str__(self) -> str:
        def counted(counter: Counter[str]) -> str:
            return f"{counter.total()} ({', '.join(f'{number} {name}' for name, number in counter.most_common())})"

        lines = [
            f"kills: {counted(self.kills)}; {self.amid} left a batch under way",
            f"stopped: {self.stops}, of which {self.taken_over} were taken over from; outages: {self.outages}",
            f"restored: {self.restores}, repaired in {self.repairs} runs",
            f"faults by kind: {counted(self.faults)}; and {self.turned_away} requests turned away by outages",
            f"faults by request: {counted(self.requests)}",
            "compared: {rows} rows of {events} events, {acknowledged} of them acknowledged; {lost} acknowledged events "
            "were given up with what was restored over".format(**self.compared),
            *(f"appends while a relay was {name}: {spread(times)}" for name, times in self.milliseconds.items()),
            f"seconds: {self.seconds:.0f}",
        ]
        return "\n".join(lines)


def percentile(milliseconds: list[float], part: float) -> float:
    """The time within which this part of them was done."""
    times = sorted(milliseconds) or [0.0]
    return times[min(int(len(times) * part), len(times) - 1)]


def spread(milliseconds: list[float]) -> str:
    """How many they are, the median, the 99th percentile and the longest."""
    middle, late, last = (percentile(milliseconds, part) for part in (0.5, 0.99, 1.0))
    return f"{len(milliseconds)}, p50 {middle:.1f} ms, p99 {late:.1f} ms, max {last:.0f} ms"
