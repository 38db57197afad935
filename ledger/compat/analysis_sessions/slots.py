"""Conversion between an analysis session and a ledger session.

Context, results, queries and tags are stored in the ledger's own fields for them, and preferences in the field
``x_preference``. One attribute holds the assets; another marks the session as an analysis session.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeGuard

from ledger.compat.analysis_sessions.models import (
    AnalysisHistory,
    QueryRecord,
    Session,
    SessionState,
    SessionType,
    session_type_of,
    validated,
)
from ledger.errors import InvalidInput
from ledger.model.events import Change, text_of
from ledger.model.instants import EPOCH, from_text, to_text
from ledger.model.session import Session as Recorded
from ledger.model.values import canonical, decode

MARK = "analysis_session"
PREFERENCE = "x_preference"
#: Attribute that holds a session's metrics. Lists of sessions contain a session's attributes even if only the
#: warehouse holds the session.
METRICS = "metrics"
#: Statuses in which an analysis session refuses changes. ``Session.is_archived`` is true in these statuses.
OVER = ("expired", "archived")
Slot = tuple[str, str]


def registers_of(session: Session) -> dict[Slot, str]:
    """Return the registers of an analysis session, with their values as JSON text: the text that an append records.

    Raises:
        InvalidInput: A value cannot be recorded.
    """
    state = session.state
    values: dict[Slot, Any] = {
        ("session_type", ""): str(session.type),
        ("attribute", MARK): True,
        ("attribute", "assets"): list(session.assets),
        ("expires_at", ""): None if session.expires_at is None else to_text(session.expires_at),
    }
    values |= {("tag", tag): True for tag in session.tags}
    values |= {("context", name): value for name, value in state.context.items()}
    values |= {("result", name): value for name, value in state.intermediate_results.items()}
    values |= {(PREFERENCE, name): value for name, value in state.preferences.items()}
    values |= {("query", query.query_id): value_of(query) for query in state.history.queries}
    return {slot: text_of(Change(*slot, value)) or "null" for slot, value in values.items()}


def value_of(query: QueryRecord) -> dict[str, Any]:
    """Convert a query to the JSON object that is stored in the field ``query``."""
    return query.model_dump(exclude={"query_id", "timestamp"}) | {"timestamp": to_text(query.timestamp)}


def changes_between(before: dict[Slot, str], after: dict[Slot, str], *, removing: bool = True) -> list[Change]:
    """Return the changes that turn ``before`` into ``after``.

    Args:
        removing: Remove the registers that are in ``before`` and not in ``after``. If False, they stay.
    """
    changes = [Change(*slot, decode(text)) for slot, text in after.items() if before.get(slot) != text]
    if removing:
        changes += [Change(*slot, removed=True) for slot in before if slot not in after]
    return changes


def is_analysis(recorded: Recorded | None) -> TypeGuard[Recorded]:
    """Return True if the session is an analysis session and is not deleted. Return False for None."""
    return recorded is not None and recorded.attributes.get(MARK) is True and recorded.status != "deleted"


def checked(session: Session) -> Session:
    """Return a validated copy of a session. The original may hold values that were assigned without validation.

    Raises:
        InvalidInput: A value does not fit.
    """
    state = session.state
    values = {name: getattr(session, name) for name in ("id", "user_id", "type", "assets", "tags", "expires_at")}
    return validated(
        Session,
        values
        | {
            "state": {
                "context": state.context,
                "preferences": state.preferences,
                "intermediate_results": state.intermediate_results,
                "history": {"queries": [dict(query) for query in state.history.queries]},
            }
        },
    )


def assets_of(recorded: Recorded) -> list[str]:
    """Return the assets of a session. If another program recorded an asset that is not text, it becomes JSON text."""
    found = recorded.attributes.get("assets") or []
    return [it if isinstance(it, str) else canonical(it) for it in (found if isinstance(found, list) else [found])]


def session_of(recorded: Recorded, max_queries: int | None = None) -> Session:
    """Return the analysis session stored in a ledger session.

    Args:
        max_queries: Maximum number of queries that ``Session.add_query`` accepts; None for no maximum.

    Raises:
        InvalidInput: The session has a type that analysis sessions do not have.
    """
    queries = [_query(query_id, value or {}, recorded.created_at) for query_id, value in recorded.queries.items()]
    queries.sort(key=lambda query: (query.timestamp, query.query_id))
    session = Session(
        id=recorded.session_id,
        user_id=recorded.user_id,
        type=session_type_of(recorded.session_type or SessionType.EQUITY),
        assets=assets_of(recorded),
        state=SessionState(
            context=recorded.context,
            preferences={key: value for (field, key), value in recorded.free.items() if field == PREFERENCE},
            intermediate_results=recorded.results,
            history=AnalysisHistory(queries=queries),
        ),
        tags=list(recorded.tags),
        created_at=recorded.created_at,
        expires_at=recorded.expires_at,
        last_accessed_at=recorded.updated_at,
        is_archived=recorded.recorded_status in OVER,
    )
    session._recorded = registers_of(session)
    session._max_queries = max_queries
    return session


def query_time(value: dict[str, Any], default: datetime) -> datetime:
    """Return the timestamp of a recorded query. If it is missing or invalid, return ``default``."""
    try:
        return from_text(value["timestamp"])
    except (KeyError, InvalidInput):
        return max(default, EPOCH)


def _query(query_id: str, value: dict[str, Any], default: datetime) -> QueryRecord:
    """Return a recorded query, with missing and invalid parts replaced.

    Parts can be missing or invalid if the query was erased, or if another program recorded it.
    """
    parameters, execution_time = value.get("parameters") or {}, value.get("execution_time_ms")
    return QueryRecord(
        query_id=query_id,
        query_type=value.get("query_type", "erased"),
        parameters=parameters if isinstance(parameters, dict) else {"parameters": parameters},
        result_summary=value.get("result_summary"),
        cache_hit=bool(value.get("cache_hit")),
        execution_time_ms=execution_time if isinstance(execution_time, int | float) else None,
        timestamp=query_time(value, default),
    )
