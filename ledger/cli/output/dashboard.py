"""What ``ledger stats`` prints: a period beside the one before, its days, tools and models.

It fits 80 columns. On a narrower terminal, the columns that say less are left out, and names are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ledger.analytics.quantities import (
    UNKNOWN,
    change_text,
    count_text,
    dollars_text,
    duration_text,
    points_text,
    ratio_text,
    sparkline,
)
from ledger.analytics.summary import ModelTotals, Summary, ToolTotals, Totals
from ledger.cli.output.tables import console, cut, drawn, emit, indented, rule
from ledger.cli.output.text import counted, one_line, plain

#: Width for which the dashboard is laid out, and those below which columns are left out.
_FULL, _NARROW, _TINY = 80, 60, 46
#: Maximum number of tools and of models that are shown, and width of a name and of a bar.
_SHOWN, _NAME, _BAR = 10, 28, 12
#: Maximum number of days in a sparkline; of more, several days share a character.
_DAYS = 56
_Change = Callable[[float | None, float | None], str]


def show_summary(summary: Summary) -> None:
    """Print a summary."""
    emit(Group(*_parts(summary, min(console().width, _FULL))))


def _parts(summary: Summary, width: int) -> Iterator[RenderableType]:
    now, before = summary.current, summary.before
    yield Text.assemble((_days_text(now), "bold"), (f"  against {_days_text(before)}", "dim"))
    yield Text()
    yield _totals_table(now, before, width)
    yield Text()
    yield rule("days", f"{now.first_day} to {now.last_day}, in UTC")
    yield _days_table(summary)
    if now.tools:
        yield from (Text(), rule("tools", _of(now.tools)), _tools_table(now.tools[:_SHOWN], width))
    if now.models:
        yield from (Text(), rule("models", _of(now.models)), _models_table(now.models[:_SHOWN], width))
    if now.unpriced_count and now.cost_usd is not None:
        said = (
            f"The cost lacks {counted(now.unpriced_count, 'model call')} of {now.model_call_count:,}, without a price."
        )
        yield from (Text(), plain(said, "dim"))


def _days_text(totals: Totals) -> str:
    days = (totals.last_day - totals.first_day).days + 1
    return f"{totals.first_day} to {totals.last_day} ({counted(days, 'day')})"


def _of(items: Sequence[object]) -> str:
    return "" if len(items) <= _SHOWN else f"{_SHOWN} of {len(items):,}; --json has all"


def _totals_table(now: Totals, before: Totals, width: int) -> RenderableType:
    rows: tuple[tuple[str, str, Callable[[float | None], str], _Change], ...] = (
        ("sessions begun", "session_count", count_text, change_text),
        ("sessions active", "active_session_count", count_text, change_text),
        ("users", "user_count", count_text, change_text),
        ("success ratio", "success_ratio", ratio_text, points_text),
        ("messages", "message_count", count_text, change_text),
        ("turns", "turn_count", count_text, change_text),
        ("session duration, median", "session_duration_p50_ms", duration_text, change_text),
        ("tool calls", "tool_call_count", count_text, change_text),
        ("tool failure ratio", "tool_failure_ratio", ratio_text, points_text),
        ("tool latency, median", "tool_latency_p50_ms", duration_text, change_text),
        ("tool latency, 95%", "tool_latency_p95_ms", duration_text, change_text),
        ("model calls", "model_call_count", count_text, change_text),
        ("model latency, median", "model_duration_p50_ms", duration_text, change_text),
        ("model latency, 95%", "model_duration_p95_ms", duration_text, change_text),
        ("input tokens", "input_token_count", count_text, change_text),
        ("output tokens", "output_token_count", count_text, change_text),
        ("cost", "cost_usd", dollars_text, change_text),
        ("errors", "error_count", count_text, change_text),
    )
    columns = [("", "<"), ("now", ">")]
    columns += [("before", ">")] if width >= _TINY else []
    table = _table(*columns, ("change", ">"))
    for name, attribute, text, change in rows:
        pair = getattr(now, attribute), getattr(before, attribute)
        cells = [cut(plain(name)), plain(text(pair[0]), "bold")]
        cells += [plain(text(pair[1]), "dim")] if width >= _TINY else []
        table.add_row(*cells, plain(change(*pair)))
    return indented(table)


def _days_table(summary: Summary) -> RenderableType:
    lines = (
        ("sessions", "session_count", count_text),
        ("messages", "message_count", count_text),
        ("tool calls", "tool_call_count", count_text),
        ("failed tool calls", "failed_tool_call_count", count_text),
        ("model calls", "model_call_count", count_text),
        ("cost", "cost_usd", dollars_text),
        ("errors", "error_count", count_text),
    )
    table = _table(("", "<"), ("by day", "<"), ("max", ">"), ("last", ">"))
    blocks = drawn("▁▂▃▄▅▆▇█", "_.:-=+*#")
    for name, column, text in lines:
        numbers = [day[column] for day in summary.days]
        most = max((number for number in numbers if number is not None), default=None)
        drawing = plain(sparkline(_gathered(numbers), blocks), "red" if "fail" in name or name == "errors" else "cyan")
        table.add_row(cut(plain(name)), drawing, plain(text(most)), plain(text(numbers[-1])))
    return indented(table)


def _gathered(numbers: Sequence[float | None]) -> list[float | None]:
    """Return at most ``_DAYS`` numbers, each the sum of as many days."""
    size = -(-len(numbers) // _DAYS)
    groups = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    sums = [[number for number in group if number is not None] for group in groups]
    return [sum(known) if known else None for known in sums]


def _tools_table(tools: Sequence[ToolTotals], width: int) -> RenderableType:
    columns = [("tool", "<"), ("calls", ">"), ("failed", ">"), ("", ">")]
    if width >= _FULL:
        columns.append(("failures", "<"))
    columns += [("median", ">"), ("95%", ">")] if width >= _NARROW else []
    table = _table(*columns)
    for it in tools:
        cells = [_name(it.tool), plain(count_text(it.call_count)), _failed(it.failed_count)]
        cells.append(plain(ratio_text(it.failure_ratio)))
        if width >= _FULL:
            cells.append(_bar(it.failure_ratio))
        if width >= _NARROW:
            cells += [plain(duration_text(it.latency_p50_ms)), plain(duration_text(it.latency_p95_ms))]
        table.add_row(*cells)
    return indented(table)


def _models_table(models: Sequence[ModelTotals], width: int) -> RenderableType:
    columns = [("model", "<"), ("calls", ">"), ("failed", ">")]
    columns += [("input", ">"), ("output", ">")] if width >= _NARROW else []
    columns.append(("cost", ">"))
    columns += [("median", ">"), ("95%", ">")] if width >= _FULL else []
    table = _table(*columns)
    for it in models:
        cells = [_name(it.model), plain(count_text(it.call_count)), _failed(it.failed_count)]
        if width >= _NARROW:
            cells += [plain(count_text(it.input_token_count)), plain(count_text(it.output_token_count))]
        cells.append(plain(dollars_text(it.cost_usd)))
        if width >= _FULL:
            cells += [plain(duration_text(it.duration_p50_ms)), plain(duration_text(it.duration_p95_ms))]
        table.add_row(*cells)
    return indented(table)


def _table(*columns: tuple[str, str]) -> Table:
    """Return a table whose first column is cut if the terminal is too narrow; > aligns a column to the right.

    Rich narrows the columns first that may wrap, which is the first one, so that no digit of a number is lost.
    """
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for number, (name, side) in enumerate(columns):
        table.add_column(plain(name), justify="right" if side == ">" else "left", no_wrap=number > 0)
    return table


def _name(name: str | None) -> Text:
    return cut(plain(UNKNOWN if name is None else one_line(name, _NAME)))


def _failed(count: int) -> Text:
    return plain(count_text(count), "red" if count else "")


def _bar(ratio: float | None) -> Text:
    """Return a bar of a ratio: full blocks, and at least one if it is not 0."""
    if ratio is None:
        return Text()
    filled = max(round(ratio * _BAR), 1 if ratio else 0)
    return Text(drawn("█", "#") * filled, "red") + Text(drawn("░", ".") * (_BAR - filled), "dim")
