"""The versions of a session's page: who changed what when, and what it was before."""

from __future__ import annotations

from collections.abc import Iterable

from ledger.analytics.pages import html
from ledger.analytics.quantities import UNKNOWN, count_text
from ledger.analytics.session_page.record import ChangedRegister, SessionRecord
from ledger.analytics.session_page.values import (
    change_html,
    content_text,
    ends,
    one_line_html,
    time_html,
    value_html,
)
from ledger.model.events import RecordedChange, RecordedEvent

#: Maximum number of changes of an event, and of keys of an object, that are listed.
_CHANGES = 20
#: Maximum number of characters of a value in the line of a version, and of changes that the line names.
_IN_LINE, _NAMED = 60, 3
Versions = Iterable[tuple[RecordedEvent, list[ChangedRegister]]]


def history_html(record: SessionRecord, most: int, characters: int) -> str:
    """Return the versions of a session as HTML, oldest first: at most so many, the first ones and the last ones."""
    first, left, last = ends(list(record.versions()), most)
    one_day = len({event.occurred_at.date() for event in record.events}) == 1
    form = "%H:%M:%S" if one_day else "%Y-%m-%d %H:%M:%S"
    parts = [*_versions_html(first, form, characters)]
    if left:
        session_id = html(record.session.session_id)
        parts.append(
            f'<p class="note">{left:,} of {len(record.events):,} versions are left out here. All of them: '
            f"<code>ledger history {session_id}</code></p>"
        )
    return "\n".join([*parts, *_versions_html(last, form, characters)])


def _versions_html(versions: Versions, form: str, characters: int) -> Iterable[str]:
    for event, changed in versions:
        rows = [row for it in changed[:_CHANGES] for row in _rows(it, characters)]
        left = len(changed) - _CHANGES
        note = f'<p class="note">{left:,} more changes of this version are left out here.</p>' if left > 0 else ""
        yield (
            f'<details class="panel version"><summary><b>{event.version}</b>{time_html(event.occurred_at, form)}'
            f"<span>{html(event.actor or event.user_id)}</span><span>{html(event.event_type)}</span>"
            f'<span class="what">{_in_short(changed)}</span></summary>'
            '<table class="changes"><thead><tr><th>Field</th><th>Before</th><th>After</th></tr></thead><tbody>'
            f"{''.join(rows)}</tbody></table>{note}</details>"
        )


def _in_short(changed: list[ChangedRegister]) -> str:
    """Return the first changes of an event on a line."""
    named = []
    for it in changed[:_NAMED]:
        name = _name(it)
        if it.change.removed:
            named.append(f"{name} removed")
        elif (content := _content(it.change)) is not None:
            named.append(content)
        else:
            named.append(f"{name} = {change_html(it.change, _IN_LINE, one_line=True)}")
    more = len(changed) - _NAMED
    return "; ".join(named) + (f"; {count_text(more)} more" if more > 0 else "")


def _content(change: RecordedChange) -> str | None:
    """Return a message as its role and its beginning, and a call as its name; None for any other change."""
    if change.field not in ("message", "tool_call", "model_call") or not isinstance(value := change.value, dict):
        return None
    if change.field == "message":
        text = one_line_html(content_text(value.get("content")), _IN_LINE)
        return f"message of {one_line_html(value.get('role'), 20)}: {text}"
    name = value.get("name" if change.field == "tool_call" else "model")
    return f"{change.field.replace('_', ' ')} {one_line_html(name, _IN_LINE)}"


def _rows(changed: ChangedRegister, characters: int) -> Iterable[str]:
    """Return the table rows of a change: one, or one for each key that differs between two objects."""
    change, before = changed.change, changed.before
    old = None if before is None or before.text is None else before.value
    new = None if change.removed or change.text is None else change.value
    if not (isinstance(old, dict) and isinstance(new, dict)):
        yield _row(_name(changed), change_html(before, characters), change_html(change, characters))
        return
    keys = sorted(key for key in old.keys() | new.keys() if key not in old or key not in new or old[key] != new[key])
    for key in keys[:_CHANGES]:
        sides = (value_html(side[key], characters) if key in side else "" for side in (old, new))
        yield _row(f"{_name(changed)}.{one_line_html(key, 80)}", *sides)
    if len(keys) > _CHANGES:
        yield f'<tr><td colspan="3" class="muted">{len(keys) - _CHANGES:,} more keys, left out here</td></tr>'
    if not keys:
        yield f'<tr><td>{_name(changed)}</td><td colspan="2" class="none">the same as before</td></tr>'


def _row(name: str, before: str, after: str) -> str:
    sides = (("before", before), ("after", after))
    cells = (f'<td class="{kind}{"" if side else " none"}">{side or UNKNOWN}</td>' for kind, side in sides)
    return f"<tr><td>{name}</td>{''.join(cells)}</tr>"


def _name(changed: ChangedRegister) -> str:
    change = changed.change
    return html(change.field) + (f"[{one_line_html(change.key, 80)}]" if change.key else "")
