"""The course of a session as SVG: a lane each for users, answers, tools and models, over the time of the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from html import escape

from ledger.analytics.pages import html
from ledger.analytics.quantities import duration_text
from ledger.analytics.session_page.record import ModelCall, SessionRecord, Step
from ledger.model.session import Message

_LEFT, _RIGHT, _WIDTH, _LANE, _TICKS = 84, 24, 1000, 26, 5
#: Height of a bar, and smallest width of one.
_BAR, _NARROWEST = 12, 3
_INSTANT = timedelta(microseconds=1)
Mark = tuple[str, datetime, datetime, str, bool]


def timeline(record: SessionRecord) -> str:
    """Return the steps of a session as SVG, or as nothing if they all have one time; without those that it copied.

    Marks that would cover one another are drawn once, so that a long session has no more marks than pixels.
    """
    marks = [_mark(step) for step in record.steps if not step.is_copy]
    times = [time for _, start, end, _, _ in marks for time in (start, end)]
    times += [event.occurred_at for event in record.events]
    if not marks or min(times) == max(times):
        return ""
    begin, end = min(times), max(times)
    lanes = [lane for lane in ("user", "assistant", "other", "tools", "models") if any(it[0] == lane for it in marks)]
    place = _scale(begin, end)
    height = len(lanes) * _LANE + 26
    parts = [*_axis(begin, end, len(lanes) * _LANE)]
    for number, lane in enumerate(lanes):
        middle = number * _LANE + _LANE / 2
        parts.append(f'<line class="lane" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{middle}" y2="{middle}"/>')
        parts.append(f'<text x="0" y="{middle + 4}">{lane}</text>')
        parts += _drawn((it for it in marks if it[0] == lane), middle, place)
    label = escape(f"Course of the session from {begin:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S} UTC")
    return (
        f'<div class="scroll"><svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg></div>"
    )


def _mark(step: Step) -> Mark:
    """Return the lane, begin, end, title of a step, and whether it failed."""
    item = step.item
    if isinstance(item, Message):
        lane = item.role if item.role in ("user", "assistant") else "other"
        return lane, step.at, step.at, f"{item.role}, version {step.version}", item.error not in (None, False)
    if isinstance(item, ModelCall):
        took = item.number("duration_ms") or 0
        try:
            start = step.at - timedelta(milliseconds=took)  # a call is recorded when it has ended
        except OverflowError:
            start = step.at
        model = (item.parts or {}).get("model")
        return "models", start, step.at, f"{model or 'erased'}, {duration_text(took or None)}", item.failed
    start = (step.times and step.times.started_at) or step.at
    end = (step.times and step.times.finished_at) or start
    took_text = duration_text(None if step.times is None else step.times.latency_ms)
    return "tools", start, max(start, end), f"{item.name}, {item.status}, {took_text}", item.status == "failed"


def _scale(begin: datetime, end: datetime) -> Callable[[datetime], float]:
    """Return the function that places a time on the drawing."""
    span = (end - begin) / _INSTANT

    def place(at: datetime) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((at - begin) / _INSTANT) / span

    return place


def _axis(begin: datetime, end: datetime, height: int) -> Iterable[str]:
    place, span = _scale(begin, end), end - begin
    for number in range(_TICKS):
        part = span * number / (_TICKS - 1)
        x = round(place(begin + part), 1)
        anchor = "start" if number == 0 else "end" if number == _TICKS - 1 else "middle"
        text = f"{begin:%H:%M:%S}" if number == 0 else f"+{duration_text(part / timedelta(milliseconds=1))}"
        yield f'<line class="lane" x1="{x}" x2="{x}" y1="0" y2="{height}" stroke-dasharray="2 4"/>'
        yield f'<text x="{x}" y="{height + 18}" text-anchor="{anchor}">{text}</text>'


def _drawn(marks: Iterable[Mark], middle: float, place: Callable[[datetime], float]) -> Iterable[str]:
    drawn: dict[tuple[float, float, bool], None] = {}
    for lane, start, end, title, failed in marks:
        x, width = round(place(start)), max(round(place(end) - place(start)), _NARROWEST)
        if (x, width, failed) in drawn:
            continue
        drawn[x, width, failed] = None
        kind = "failed" if failed else {"tools": "call", "models": "model"}.get(lane, lane)
        said = f"<title>{html(title[:200])}</title>"
        if start == end and lane not in ("tools", "models"):
            yield f'<circle class="{kind}" cx="{x}" cy="{middle}" r="5">{said}</circle>'
        else:
            top = middle - _BAR / 2
            yield (
                f'<rect class="{kind}" x="{x}" y="{top}" width="{width}" height="{_BAR}" rx="2" opacity="0.8">'
                f"{said}</rect>"
            )
