"""The conversation of a session's page: messages, tool calls with their results, and calls of language models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.analytics.pages import html
from ledger.analytics.quantities import UNKNOWN, count_text, dollars_text, duration_text
from ledger.analytics.session_page.record import ModelCall, SessionRecord, Step
from ledger.analytics.session_page.values import (
    ERASED,
    content_html,
    content_text,
    ends,
    one_line_html,
    text_of,
    time_html,
    value_html,
)
from ledger.model.session import Message, ToolCall

#: Columns of the table of model calls: the heading, and the part that is a number, with the text of it.
_NUMBERS = (
    ("Input", "input_tokens", count_text),
    ("cached", "cached_input_tokens", count_text),
    ("Output", "output_tokens", count_text),
    ("reasoning", "reasoning_tokens", count_text),
    ("Cost", "cost_usd", dollars_text),
    ("Duration", "duration_ms", duration_text),
    ("First token", "time_to_first_token_ms", duration_text),
)
#: What the line of a call in the conversation tells besides its tokens.
_ON_LINE = (("cost_usd", dollars_text), ("duration_ms", duration_text))
#: Roles whose messages are for the model: those of more characters are folded.
_FOLDED, _SHORT = ("system", "developer", "tool", "function"), 300
#: Columns that are summed up.
_SUMMED = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "cost_usd")


def steps_html(record: SessionRecord, most: int, characters: int) -> str:
    """Return the messages and calls of a session in order as HTML: at most so many, the first and the last ones."""
    if not record.steps:
        return '<p class="muted">Nothing was said or called.</p>'
    first, left, last = ends(list(enumerate(record.steps)), most)
    one_day = len({step.at.date() for step in record.steps}) == 1
    form = "%H:%M:%S" if one_day else "%Y-%m-%d %H:%M:%S"
    parts = [_step_html(number, step, form, characters) for number, step in first]
    if left:
        session_id = html(record.session.session_id)
        parts.append(
            f'<p class="note">{left:,} of {len(record.steps):,} messages and calls are left out here. All messages: '
            f"<code>ledger show {session_id} --messages</code></p>"
        )
    parts += [_step_html(number, step, form, characters) for number, step in last]
    return "\n".join(parts)


def model_calls_html(record: SessionRecord, most: int) -> str:
    """Return the calls of language models as a table with sums; empty if there are none."""
    calls = record.model_calls
    if not calls:
        return ""
    first, left, last = ends(calls, most)
    heads = "".join(f'<th class="number">{name}</th>' for name, _, _ in _NUMBERS)
    rows = [_model_row(step) for step in first]
    if left:
        rows.append(f'<tr><td colspan="{len(_NUMBERS) + 4}" class="muted">{left:,} more calls, left out here</td></tr>')
    rows += [_model_row(step) for step in last]
    sums = "".join(
        f'<td class="number">{text(record.total(part)) if part in _SUMMED else ""}</td>' for _, part, text in _NUMBERS
    )
    copied = sum(step.is_copy for step in calls)
    counted = f"{len(calls):,} calls" + (f", {copied:,} copied, which the sums lack" if copied else "")
    return (
        f'<div class="scroll"><table><thead><tr><th>Time</th><th>Model</th><th>Operation</th>{heads}<th>Ended</th></tr>'
        f"</thead>\n<tbody>{''.join(rows)}</tbody>\n<tfoot><tr><td>{counted}</td><td></td><td></td>{sums}"
        "<td></td></tr></tfoot></table></div>"
    )


def _model_row(step: Step) -> str:
    call = step.item
    assert isinstance(call, ModelCall)  # noqa: S101 - the caller passes only these
    parts: Mapping[str, Any] = call.parts or {}
    model = ERASED if call.parts is None else one_line_html(parts.get("model", UNKNOWN), 80)
    provider = f' <span class="muted">{one_line_html(parts["provider"], 40)}</span>' if parts.get("provider") else ""
    numbers = "".join(f'<td class="number">{text(call.number(part))}</td>' for _, part, text in _NUMBERS)
    ended = f'<span class="bad">{_failure(parts["error"])}</span>' if call.failed else _part(parts, "finish_reason")
    return (
        f"<tr><td>{time_html(step.at, '%H:%M:%S')}</td><td>{model}{provider}</td><td>{_part(parts, 'operation')}</td>"
        f"{numbers}<td>{ended}</td></tr>"
    )


def _part(parts: Mapping[str, Any], name: str) -> str:
    return UNKNOWN if parts.get(name) is None else one_line_html(parts[name], 60)


def _failure(error: Any) -> str:
    kind = error.get("type") or error.get("message") if isinstance(error, dict) else None
    return one_line_html(error if kind is None else kind, 60)


def _step_html(number: int, step: Step, form: str, characters: int) -> str:
    item = step.item
    if isinstance(item, Message):
        return _message_html(number, step, item, form, characters)
    if isinstance(item, ToolCall):
        return _call_html(number, step, item, form, characters)
    return _model_line(number, step, item)


def _message_html(number: int, step: Step, message: Message, form: str, characters: int) -> str:
    notes = [*_copied(step), f"version {message.version}"]
    if isinstance(message.token_count, int | float):
        notes.append(f"{count_text(message.token_count)} tokens")
    if isinstance(message.processing_time_ms, int | float):
        notes.append(duration_text(message.processing_time_ms))
    if message.tools_used:
        notes.append(f"tools: {one_line_html(_names(message.tools_used), 120)}")
    who = f"<span>{html(step.actor)}</span>" if step.actor not in (None, message.role) else ""
    error = "" if message.error in (None, False) else _part_html("Error", message.error, characters)
    extra = "".join(
        f"<details><summary>{name}</summary>{_part_html('', value, characters)}</details>"
        for name, value in (("Metadata", message.metadata), ("Payload", message.payload))
        if value not in (None, {}, [])
    )
    kind = "failed" if error else message.role if message.role in ("user", "assistant") else ""
    content = ERASED if message.role == "erased" else content_html(message.content, characters)
    text = content_text(message.content)
    if message.role in _FOLDED and not error and len(text_of(text)) > _SHORT:
        return (
            f'<details class="panel" id="s{number}"><summary><b>{html(message.role)}</b>{who}'
            f"{time_html(step.at, form)}<span>{one_line_html(text, 70)}</span>"
            f'<span class="right">{", ".join(notes)}</span></summary>'
            f'<div class="text">{content}</div>{extra}</details>'
        )
    return (
        f'<article class="panel {kind}" id="s{number}"><div class="head"><b>{html(message.role)}</b>{who}'
        f'{time_html(step.at, form)}<span class="right">{", ".join(notes)}</span></div>'
        f'<div class="text">{content}</div>{error}{extra}</article>'
    )


def _names(tools: Any) -> Any:
    """Return a list of names as text; what else was recorded as it is."""
    return ", ".join(tools) if isinstance(tools, list) and all(isinstance(it, str) for it in tools) else tools


def _call_html(number: int, step: Step, call: ToolCall, form: str, characters: int) -> str:
    definition = {key: value for key, value in call.definition.items() if key not in ("name", "id", "description")}
    retries = 0 if step.times is None else step.times.retry_count
    latency = None if step.times is None else step.times.latency_ms
    notes = [*_copied(step), *([] if latency is None else [duration_text(latency)])]
    if retries:
        notes.append(f"{retries:,} {'retry' if retries == 1 else 'retries'}")
    notes.append(f"version {step.version}")
    description = call.definition.get("description")
    parts = f'<p class="muted">{one_line_html(description, 500)}</p>' if isinstance(description, str) else ""
    if definition:
        only = definition.get("arguments") if definition.keys() == {"arguments"} else None
        parts += _part_html("Arguments" if only is not None else "Call", _readable(only or definition), characters)
    if call.has_result:
        parts += f"<h3>Result</h3>{ERASED}" if step.result_erased else _part_html("Result", call.result, characters)
    else:
        parts += '<p class="muted">No result was recorded.</p>'
    is_failed = call.status == "failed"
    return (
        f'<details class="panel {"failed" if is_failed else ""}" id="s{number}"{" open" if is_failed else ""}><summary>'
        f'<b>{one_line_html(call.name, 120)}</b><span class="badge {html(call.status)}">{html(call.status)}</span>'
        f'{time_html(step.at, form)}<span class="right">{", ".join(notes)}</span></summary>{parts}</details>'
    )


def _readable(arguments: Any) -> Any:
    """Return arguments with a text of several lines, such as a statement, as lines; all others as they are."""
    if not isinstance(arguments, dict) or not any(isinstance(it, str) and "\n" in it for it in arguments.values()):
        return arguments
    texts = {name: text_of(value) for name, value in arguments.items()}
    return "\n".join(f"{name}:\n{text}" if "\n" in text else f"{name}: {text}" for name, text in texts.items())


def _copied(step: Step) -> list[str]:
    return ["copied"] if step.is_copy else []


def _model_line(number: int, step: Step, call: ModelCall) -> str:
    parts: Mapping[str, Any] = call.parts or {}
    model = ERASED if call.parts is None else f"<b>{one_line_html(parts.get('model', UNKNOWN), 80)}</b>"
    given, made = call.number("input_tokens"), call.number("output_tokens")
    tokens = [] if given is None and made is None else [f"{count_text(given)} → {count_text(made)} tokens"]
    notes = [*_copied(step), *tokens]
    notes += [text(told) for part, text in _ON_LINE if (told := call.number(part)) is not None]
    error = f' <span class="bad">{_failure(parts["error"])}</span>' if call.failed else ""
    return f'<p class="model" id="s{number}">model {model} {", ".join(notes)}{error}</p>'


def _part_html(name: str, value: Any, characters: int) -> str:
    return f"{f'<h3>{name}</h3>' if name else ''}<pre>{value_html(value, characters)}</pre>"
