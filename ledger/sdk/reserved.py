"""Event types and fields that the ledger itself writes, and that a caller's own events may therefore not have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ledger.errors import InvalidInput
from ledger.model.events import Change

#: Types of the events about a session as a whole, and the method that records each.
_METHODS: Mapping[str, str] = {
    "session.created": "create_session()",
    "session.completed": "complete_session()",
    "session.failed": "fail_session()",
    "session.extended": "extend_session()",
    "session.expired": "expire_session()",
    "session.deleted": "delete_session()",
    "session.restored": "restore_session()",
    "session.archived": "archive_session()",
    "session.hydrated": "hydrate_session()",
    "session.forked": "fork_session()",
    "session.copied": "fork_session()",
    "template.used": "create_from_template()",
    "child.withdrawn": "fork_session()",
    "session.rewinding": "rewind()",
    "session.rewound": "rewind()",
    "access.granted": "grant_access()",
    "access.revoked": "revoke_access()",
}
#: Types of the events about a part of a session, and the fields that each may change.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "constraints.updated": ("constraints", "tool_call", "tool_call_status"),
    "strategy.updated": ("strategy",),
    "response_plan.updated": ("response_plan",),
    "summary.updated": ("summary",),
    "tool_call.updated": ("tool_call", "tool_call_status", "tool_call_result"),
    "message.added": ("message", "title"),
    "message.removed": ("message", "title"),
    "query.added": ("query",),
    "model_call.recorded": ("model_call",),
    "context.updated": ("context",),
    "result.updated": ("result",),
    "attributes.updated": ("attribute",),
    "tags.updated": ("tag",),
    "score.added": ("score",),
}
#: Fields that say where a session comes from and what was made of it.
_BRANCHES = ("lineage", "child")


def check_event(event_type: object, changes: Iterable[Change]) -> None:
    """Raise InvalidInput if an event of a caller has a type or a field that only the ledger's own events have."""
    fields = [change.field for change in changes if isinstance(change, Change)]
    check_fields(fields)
    if not isinstance(event_type, str):
        return  # the store refuses it
    method = _METHODS.get(event_type)
    if method is not None:
        raise InvalidInput(
            f"{event_type} is an event of {method}; nothing was written. Call that method, or give your event a type "
            "of its own, such as plan.approved."
        )
    allowed = _FIELDS.get(event_type)
    other = None if allowed is None else next((field for field in fields if field not in allowed), None)
    if allowed is not None and other is not None:
        raise InvalidInput(
            f"An event {event_type} changes {' and '.join(allowed)}, not {str(other)[:70]}; nothing was written. Give "
            "your event a type of its own, such as plan.approved."
        )


def check_fields(fields: Iterable[Any]) -> None:
    """Raise InvalidInput if a field is among those that only a fork or a session from a template writes."""
    for field in fields:
        if field in _BRANCHES:
            raise InvalidInput(
                f"{field} is set by the ledger and cannot be changed; nothing was written. Forks, and sessions "
                "from a template, record it."
            )
