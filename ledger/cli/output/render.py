"""Sessions, events, differences and tables as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ledger.cli.output.shapes import json_text
from ledger.cli.output.tables import (
    console,
    cut,
    drawn,
    emit,
    facts,
    has_any_width,
    indented,
    rule,
    shortened,
    table_of,
)
from ledger.cli.output.text import one_line, plain, safe, shown
from ledger.model.call_times import CallTimes
from ledger.model.events import RecordedEvent
from ledger.model.fold import Difference, RegisterValue
from ledger.model.page import Page
from ledger.model.queries import OrderBy
from ledger.model.search import Match
from ledger.model.session import MAPS, VALUES, Message, Session, ToolCall, in_order

STYLES = {
    "active": "cyan",
    "pending": "yellow",
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "expired": "dim",
    "archived": "dim",
    "deleted": "dim",
}
_ROLES = {"user": "bold cyan", "assistant": "bold green", "tool": "bold magenta"}
#: If the output is narrower than this, less important columns are not shown.
_WIDE = 110
#: An object or array whose JSON text is longer than this is printed on several lines, indented.
_LONG = 60
#: Maximum length of a key in a timeline on a terminal.
_KEY = 36


def show_session(session: Session, messages: Sequence[Message] | None) -> None:
    """Print a session, and its messages if they are given."""
    emit(session_page(session, messages))


def session_page(session: Session, messages: Sequence[Message] | None = None) -> Group:
    """Return a session as text for a terminal, with its messages if they are given."""
    head = facts(
        ("session", session.session_id),
        ("user", session.user_id),
        ("status", Text(session.status or "-", STYLES.get(session.status or "", ""))),
        ("version", f"{session.version}, {when(session.updated_at)}"),
        ("created", when(session.created_at)),
        ("title", session.title),
        ("type", session.session_type),
        ("expires", None if session.expires_at is None else when(session.expires_at)),
        ("tags", ", ".join(session.tags) or None),
        ("question", session.question),
    )
    parts: list[RenderableType] = [head]
    for name in ("constraints", "strategy", "response_plan"):
        parts += _section(name, getattr(session, name))
    if session.calls:
        parts += [rule("tool calls"), indented(calls_table(session.calls))]
    for name in ("summary", *VALUES):
        parts += _section(name, getattr(session, name))
    for name in MAPS:
        parts += _section(name, in_order(getattr(session, name)))
    parts += _section("free", {"/".join(filter(None, name)): value for name, value in in_order(session.free).items()})
    if messages is not None:
        parts += [rule("messages"), *(line for message in messages for line in _message(message))]
    return Group(*parts)


def list_sessions(page: Page[Session], order_by: OrderBy = "created") -> None:
    """Print a page of sessions as a table. If there is a next page, also print the option ``--after`` that shows it."""
    if not page:
        emit(plain("No sessions."))
        return
    emit(sessions_table(page, order_by), *_more(page))


def sessions_table(sessions: Iterable[Session], order_by: OrderBy = "created") -> Table:
    """Return a table with one row per session. Of its times, it has the one that the sessions are ordered by."""
    wide = console().width >= _WIDE
    table = table_of("session", "user", "status", ">v", *([order_by] if wide else []), "question")
    for session in sessions:
        table.add_row(
            plain(session.session_id, "bold"),
            plain(shortened(session.user_id, 20 if wide else 10)),
            plain(session.status or "-", STYLES.get(session.status or "", "")),
            str(session.version),
            *([getattr(session, f"{order_by}_at").strftime("%Y-%m-%d %H:%M")] if wide else []),
            cut(plain(shortened(session.title or session.question or "", 200))),
        )
    return table


def list_matches(page: Page[Match]) -> None:
    """Print a page of matches as a table. If there is a next page, also print the option ``--after`` that shows it."""
    if not page:
        emit(plain("No matches."))
        return
    emit(matches_table(page) if has_any_width() else Group(*map(_match, page)))
    if page.next is not None:
        click.echo(f"More: --after {page.next}")  # not by rich, which would break the long cursor over two lines


def matches_table(matches: Iterable[Match]) -> Table:
    """Return a table with one row per match."""
    table = table_of("session", "user", "where", "role", "id", ">v", "text")
    for match in matches:
        table.add_row(
            plain(match.session_id),
            plain(one_line(match.user_id)),
            plain(match.field),
            plain(one_line(match.role or "")),
            plain(one_line(match.key)),
            str(match.version),
            plain(one_line(match.snippet)),
        )
    return table


def _match(match: Match) -> Group:
    """Return a match as a heading and, on lines of their own, the text around the words that were found."""
    start = f"{safe(match.session_id)}  {one_line(match.user_id, 14)}  "
    end = f" by {match.role}" if match.role else ""
    end += f", v{match.version}"
    key = f" {one_line(match.key)}" if match.key else ""
    if len(start) + len(match.field + key + end) > console().width:
        key = ""
    head = Text.assemble((start, "bold"), (safe(match.field + key + end), "dim"))
    return Group(head, indented(plain(one_line(match.snippet))))


def show_history(page: Page[RecordedEvent]) -> None:
    """Print a page of events as a timeline. If there is a next page, also print the ``--after`` that shows it."""
    emit(timeline(page), *_more(page))


def timeline(events: Iterable[RecordedEvent]) -> Table:
    """Return a table of events with one row per change."""
    table = table_of(">v", "recorded", "event", "change")
    events = list(events)
    one_day = len({event.recorded_at.date() for event in events}) == 1
    for event in events:
        by = f" by {event.actor}" if event.actor else ""
        head = (
            str(event.version),
            event.recorded_at.strftime("%H:%M:%S.%f" if one_day else "%m-%d %H:%M:%S.%f")[:-3],
            plain(event.event_type + by),
        )
        for index, change in enumerate(event.changes):
            # The generated id of a message is the event_id, which is of no use to a reader.
            name = register_name(change.field, "" if change.key == event.event_id else shortened(change.key, _KEY))
            if change.removed:
                text = Text.assemble((safe(name), "cyan"), (" removed", "red"))
            elif change.text is None:
                text = Text.assemble((safe(name), "cyan"), (" erased", "red"))
            else:
                text = Text.assemble((safe(name), "cyan"), " = ", shortened(_brief(change.field, change.value), 300))
            table.add_row(*(head if index == 0 else ("", "", "")), cut(text))
    return table


def show_diff(differences: Sequence[Difference]) -> None:
    """Print differences, each with the values before and after."""
    emit(*map(difference_lines, differences) if differences else [plain("No differences.")])


def difference_lines(difference: Difference, *, brief: bool = False) -> Group:
    """Return a difference as text, with the values before and after.

    Args:
        difference: The difference.
        brief: Truncate each value to one line.
    """
    name = plain(register_name(difference.field, difference.key), "bold")
    lines = []
    for mark, style, register in (("-", "red", difference.before), ("+", "green", difference.after)):
        if register is not None:
            text = _register_text(register, pretty=not brief)
            shown_text = cut(plain(shortened(text, 300))) if brief else plain(text.strip("\n"))
            side = Table.grid(padding=(0, 1, 0, 0))
            side.add_row(Text(mark), shown_text, style=style)
            lines.append(indented(side))
    return Group(name, *lines)


def show_tool_calls(calls: Sequence[ToolCall]) -> None:
    """Print the tool calls of a session, with their times."""
    emit(calls_table(calls) if calls else plain("No tool calls."))


def calls_table(calls: Sequence[ToolCall]) -> Table:
    """Return a table with the name, status and result of each tool call, and with its times if they were read."""
    timed = any(call.times is not None for call in calls)
    table = table_of("call", "status", *(("started", ">took", ">retries") if timed else ()), "result")
    for call in calls:
        name = call.name if call.name == call.call_id else f"{call.name} ({call.call_id})"
        result = shortened(shown(call.result), 300) if call.has_result else ""
        cells = [plain(shortened(name, 60)), plain(call.status, STYLES.get(call.status, ""))]
        if timed:
            times = call.times or CallTimes()
            cells.append(plain("" if times.started_at is None else when(times.started_at)))
            cells.append(plain("" if times.latency_ms is None else f"{times.latency_ms:,.0f} ms"))
            cells.append(plain(str(times.retry_count)))
        table.add_row(*cells, cut(plain(result)))
    return table


def findings_table(findings: Iterable[tuple[str, str, str, str]]) -> None:
    """Print the findings of ``ledger doctor``. Each finding is a tuple (name, status, detail, remedy)."""
    marks = {
        "ok": (drawn("✓", "+"), "green"),
        "note": (drawn("·", "-"), "yellow"),
        "problem": (drawn("✗", "x"), "bold red"),
    }
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for what, status, detail, remedy in findings:
        text = plain(detail)
        if remedy:
            text.append_text(plain(f"\n-> {remedy}", marks[status][1]))
        table.add_row(Text(*marks[status]), plain(what), text)
    emit(table)


def changes_table(changes: Iterable[tuple[str, str, str, str]], heading: str = "done") -> Table:
    """Return a table of what was done to a dataset's objects, or is to be done.

    Args:
        changes: Each change as a tuple (kind, name, done, detail).
        heading: Heading of the column that says what is done.
    """
    styles = {"created": "green", "updated": "cyan", "unchanged": "dim"}
    styles |= {"create": "green", "update": "cyan", "remove": "red"}
    table = table_of("what", "name", heading, "detail")
    for what, name, done, detail in changes:
        table.add_row(plain(what), plain(name), plain(done, styles.get(done, "")), plain(detail))
    return table


def register_name(field: str, key: str) -> str:
    """Return the name of a register, for example ``summary`` or ``tool_call_status[orders]``."""
    return f"{field}[{key}]" if key else field


def when(instant: datetime) -> str:
    """Return a time, which must be in UTC, as text without fractions of a second."""
    return instant.strftime("%Y-%m-%d %H:%M:%S UTC")


def _more(page: Page[Any]) -> list[Text]:
    """Return a list with one line: the ``--after`` that shows the next page. On the last page, the list is empty."""
    return [] if page.next is None else [plain(f"More: --after {page.next}", "dim")]


def _section(name: str, value: Any) -> list[RenderableType]:
    if value is None or value in ({}, ()):
        return []
    text = value if isinstance(value, str) else json_text(value)
    return [rule(name.replace("_", " ")), indented(plain(text.strip("\n")))]


def _message(message: Message) -> list[RenderableType]:
    notes = [f"version {message.version}, {when(message.occurred_at)}{f' by {message.actor}' if message.actor else ''}"]
    if message.tools_used:
        notes.append("tools: " + ", ".join(map(shown, message.tools_used)))
    if message.token_count is not None:
        notes.append(f"{message.token_count} tokens")
    if message.processing_time_ms is not None:
        notes.append(f"{message.processing_time_ms} ms")
    if message.error is not None:
        notes.append(f"error: {shown(message.error)}")
    head = Text.assemble((message.role, _ROLES.get(message.role, "bold")), ("  " + one_line("; ".join(notes)), "dim"))
    content = "" if message.content is None else shown(message.content)
    return [head, indented(plain(content))] if content else [head]


def _brief(field: str, value: Any) -> str:
    """Return the value of a change as text for a timeline. For a message, the text has only its role and content."""
    if field == "message" and isinstance(value, dict):
        content = value.get("content")
        return f"{value.get('role')}: {'' if content is None else shown(content)}"
    return shown(value)


def _register_text(register: RegisterValue, *, pretty: bool) -> str:
    if register.text is None:
        return "erased"
    value = register.value
    long = len(register.text) > _LONG
    return json_text(value) if pretty and long and isinstance(value, dict | list) else shown(value)
