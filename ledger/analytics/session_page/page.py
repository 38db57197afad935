"""One session as an HTML page that can be sent and kept: who asked what, what was done, what each version changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from ledger.analytics.pages import html, page
from ledger.analytics.quantities import UNKNOWN, count_text, dollars_text, duration_text
from ledger.analytics.session_page.history import history_html
from ledger.analytics.session_page.record import ModelCall, SessionRecord, Step, read_record
from ledger.analytics.session_page.steps import model_calls_html, steps_html
from ledger.analytics.session_page.style import STYLE
from ledger.analytics.session_page.timeline import timeline
from ledger.analytics.session_page.values import (
    ERASED,
    cut_html,
    ends,
    one_line_html,
    time_html,
    value_html,
)
from ledger.model.session import Message, Session, ToolCall, in_order
from ledger.model.values import check_whole
from ledger.sdk.ledger import SessionLedger

#: Maximum number of messages and calls, of versions, and of characters of a value, unless the caller says otherwise.
STEPS, VERSIONS, CHARACTERS = 500, 300, 4000
#: Maximum number of characters of a question, of values in the header, and of errors that are listed.
_QUESTION, _SHORT, _ERRORS = 600, 200, 50


def session_page(
    ledger: SessionLedger,
    session_id: str,
    *,
    steps: int = STEPS,
    versions: int = VERSIONS,
    characters: int = CHARACTERS,
) -> str:
    """Return a session as one HTML page, which loads nothing from elsewhere and runs no script.

    The page has the question, the owner and the outcome; the conversation with tool calls and model calls; the errors;
    the other fields; and each version with what it changed. Everything recorded is escaped. What is left out of a long
    session or value is told.

    Args:
        ledger: An open ledger, or the view of one user.
        session_id: The session.
        steps: Maximum number of messages and calls in the conversation: the first ones and the last ones.
        versions: Maximum number of versions: the first ones and the last ones.
        characters: Maximum number of characters of a value; in the list of versions it is a tenth.

    Raises:
        SessionNotFound: The session does not exist.
        InvalidInput: A limit is less than 1.
        CorruptEvent, UpcastMissing: A row cannot be read.
    """
    for name, limit in (("steps", steps), ("versions", versions), ("characters", characters)):
        check_whole(limit, name, at_least=1)
    record = read_record(ledger, session_id)
    session = record.session
    sections = {
        "errors": ("Errors", _errors_html(record, steps)),
        "course": ("Course", timeline(record)),
        "conversation": ("Conversation", steps_html(record, steps, characters)),
        "models": ("Model calls", model_calls_html(record, steps)),
        "fields": ("Other fields", _fields_html(session, characters)),
        "versions": ("Versions", history_html(record, versions, max(characters // 10, 1))),
    }
    present = {anchor: (title, content) for anchor, (title, content) in sections.items() if content}
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, (title, _) in present.items())
    body = "\n".join(
        f'<section><h2 id="{anchor}">{title}</h2>\n{content}\n</section>'
        for anchor, (title, content) in present.items()
    )
    about = f"Session {session.session_id} at version {session.version}. Times are in UTC."
    content = f"{_head_html(record, characters)}\n<nav>{links}</nav>\n{body}\n<footer>{html(about)}</footer>"
    return page(
        f"{(session.question or session.title or 'Session')[:_SHORT]} - {session.session_id}", content, style=STYLE
    )


def _head_html(record: SessionRecord, characters: int) -> str:
    session = record.session
    title = session.question or session.title
    heading = f"Session {html(session.session_id)}" if title is None else cut_html(title, _QUESTION)
    status = session.status
    badge = f'<span class="badge {html(status)}">{html(status)}</span>' if status else ""
    error = session.error
    parts = [
        f'<p class="muted">Session <span class="id">{html(session.session_id)}</span> {badge}</p>',
        f"<h1>{heading}</h1>",
    ]
    if session.summary:
        parts.append(f'<p class="text">{cut_html(session.summary, characters)}</p>')
    if error is not None:
        parts.append(f'<div class="panel error"><b>Failed:</b> {_error_html(error, characters)}</div>')
    parts += [_tiles_html(record), _facts_html(record)]
    return "\n".join(parts)


def _tiles_html(record: SessionRecord) -> str:
    calls, models = record.tool_calls, record.model_calls
    messages = [step.item for step in record.steps if isinstance(step.item, Message)]
    failed = sum(isinstance(step.item, ToolCall) and step.item.status == "failed" for step in calls)
    failed_models = sum(isinstance(step.item, ModelCall) and step.item.failed for step in models)
    copied = sum(step.is_copy for step in models)
    own = [step.item for step in models if isinstance(step.item, ModelCall) and not step.is_copy]
    unpriced = sum(call.number("cost_usd") is None for call in own)
    times = [event.occurred_at for event in record.events]
    lasted = (max(times) - min(times)) / timedelta(milliseconds=1) if len(times) > 1 else None
    of_calls = "without copies" if copied else "of model calls"
    turns = sum(message.role == "user" for message in messages)
    tiles = (
        ("Messages", count_text(len(messages)), f"{turns:,} by users"),
        ("Tool calls", count_text(len(calls)), f"{failed:,} failed"),
        (
            "Model calls",
            count_text(len(models)),
            f"{failed_models:,} failed" + (f", {copied:,} copied" if copied else ""),
        ),
        ("Input tokens", count_text(record.total("input_tokens")), of_calls),
        ("Output tokens", count_text(record.total("output_tokens")), of_calls),
        (
            "Cost",
            dollars_text(record.total("cost_usd")),
            f"{unpriced:,} without price" if unpriced else of_calls,
        ),
        ("Time", duration_text(lasted), "first to last"),
    )
    return (
        '<dl class="tiles">'
        + "".join(
            f'<div><dt>{name}</dt><dd>{html(value)}</dd><dd class="under">{html(note)}</dd></div>'
            for name, value, note in tiles
        )
        + "</dl>"
    )


def _facts_html(record: SessionRecord) -> str:
    session = record.session
    lineage = session.lineage
    facts: list[tuple[str, str | None]] = [
        ("Owner", html(session.user_id)),
        ("Created", time_html(session.created_at)),
        ("Last change", f"{time_html(session.updated_at)}, version {session.version:,}"),
        ("Expires", None if session.expires_at is None else time_html(session.expires_at)),
        ("Title", None if session.title in (None, session.question) else cut_html(session.title, _SHORT)),
        ("Type", None if session.session_type is None else html(session.session_type)),
        ("Made from", None if lineage is None else _lineage_html(lineage)),
        ("Copied to", _list_html(session.children)),
        ("Shared with", _list_html(session.grants)),
        ("Tags", "".join(f'<span class="chip">{html(tag)}</span>' for tag in session.tags) or None),
        ("Attributes", _pairs_html(in_order(session.attributes)) or None),
    ]
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts if value is not None)
    return f'<dl class="facts">{rows}</dl>'


def _lineage_html(lineage: Mapping[str, Any]) -> str:
    session_id, version, kind = (lineage.get(part) for part in ("session_id", "version", "kind"))
    return (
        f'<span class="id">{one_line_html(session_id, _SHORT)}</span> at version {one_line_html(version, 20)}'
        f" ({one_line_html(kind, 20)})"
    )


def _list_html(values: Mapping[str, Any]) -> str | None:
    """Return the keys of a field with what is recorded of each; None if there are none."""
    items = (f'<span class="id">{html(key)}</span> {_brief(value)}' for key, value in in_order(values).items())
    return ", ".join(items) or None


def _brief(value: Any) -> str:
    if value is None:
        return ERASED
    return f"({one_line_html(value.get('kind') if isinstance(value, dict) else value, 40)})"


def _pairs_html(values: Mapping[str, Any]) -> str:
    return "".join(
        f'<span class="chip">{html(name)} = {ERASED if value is None else one_line_html(value, _SHORT)}</span>'
        for name, value in values.items()
    )


def _error_html(error: Any, characters: int) -> str:
    """Return an error as HTML: its type and message, or else the whole value."""
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        kind = error.get("type")
        name = f"<b>{html(kind)}</b> " if isinstance(kind, str) else ""
        return f'{name}<span class="text">{cut_html(error["message"], characters)}</span>'
    return f'<span class="text">{value_html(error, characters)}</span>'


def _errors_html(record: SessionRecord, steps: int) -> str:
    """Return the messages and calls that failed; those that the conversation shows are links to them."""
    numbers = range(len(record.steps))
    first, _, last = ends(numbers, steps)
    found = [
        (number, step, error) for number, step in enumerate(record.steps) if (error := _error_of(step)) is not None
    ]
    lines = []
    for number, step, error in found[:_ERRORS]:
        name, is_shown = _name_html(step), number in first or number in last
        link = f'<a href="#s{number}">{name}</a>' if is_shown else name
        lines.append(
            f'<p>{link} <span class="muted">version {step.version}:</span> '
            f'<span class="bad">{_error_line(error)}</span></p>'
        )
    left = len(found) - _ERRORS
    return "".join(lines) + (f'<p class="note">{left:,} more errors are left out here.</p>' if left > 0 else "")


def _error_of(step: Step) -> Any:
    """Return the error of a message or call that failed; an empty text if none was recorded; None if it did not."""
    item = step.item
    if isinstance(item, Message):
        return None if item.error is False else item.error
    if isinstance(item, ModelCall):
        return (item.parts or {}).get("error") if item.failed else None
    if item.status != "failed":
        return None
    return "erased" if step.result_erased else "" if item.result is None else item.result


def _error_line(error: Any) -> str:
    if isinstance(error, dict):
        parts = [error.get(part) for part in ("type", "message", "error") if isinstance(error.get(part), str)]
        if parts:
            return one_line_html(": ".join(map(str, parts)), _SHORT)
    return one_line_html(error, _SHORT) or UNKNOWN


def _name_html(step: Step) -> str:
    item = step.item
    if isinstance(item, Message):
        return f"message of {html(item.role)}"
    if isinstance(item, ModelCall):
        return f"model {one_line_html((item.parts or {}).get('model', UNKNOWN), 80)}"
    return f"tool {one_line_html(item.name, 80)}"


def _fields_html(session: Session, characters: int) -> str:
    """Return the fields that stand nowhere else on the page, each to be opened."""
    free = {"/".join(filter(None, register)): value for register, value in in_order(session.free).items()}
    fields: Iterable[tuple[str, Any]] = (
        ("Constraints", session.constraints),
        ("Strategy", session.strategy),
        ("Response plan", session.response_plan),
        ("Context", in_order(session.context)),
        ("Results", in_order(session.results)),
        ("Queries", session.queries),
        ("Scores", session.scores),
        ("Own fields (x_)", free),
    )
    return "".join(
        f'<details class="panel"><summary><b>{name}</b></summary><pre>{value_html(value, characters)}</pre></details>'
        for name, value in fields
        if value not in (None, {}, [], "")
    )
