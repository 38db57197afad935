"""An analysis session as the fields of a ledger's session, and back.

Context, results, queries and tags are the ledger's own fields of these names; preferences are ``x_preference``, each
under its name; the assets are an attribute, and so is the mark by which analysis sessions are told from others.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ledger.compat.analysis_sessions.models import (
    AnalysisHistory,
    QueryRecord,
    Session,
    SessionState,
    SessionType,
    made,
    session_type_of,
)
from ledger.errors import InvalidInput
from ledger.model.events import Change
from ledger.model.instants import EPOCH, from_text, to_text
from ledger.model.session import Session as Recorded
from ledger.model.values import canonical, decode

MARK = "analysis_session"
PREFERENCE = "x_preference"
#: The attribute that holds a session's metrics: lists show attributes also of what is in the warehouse alone.
METRICS = "metrics"
#: In these an analysis session is over.
OVER = ("expired", "archived")
Slot = tuple[str, str]


def registers_of(session: Session) -> dict[Slot, str]:
    """What an analysis session says, slot by slot, as JSON text.

    Raises:
        InvalidInput: A value is no JSON.
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
    return {slot: canonical(value, f"{slot[0]} {slot[1]}".strip()) for slot, value in values.items()}


def value_of(query: QueryRecord) -> dict[str, Any]:
    """A query as the field ``query`` holds it."""
    return query.model_dump(exclude={"query_id", "timestamp"}) | {"timestamp": to_text(query.timestamp)}


def changes_between(before: dict[Slot, str], after: dict[Slot, str], *, removing: bool = True) -> list[Change]:
    """What makes of one the other."""
    changes = [Change(*slot, decode(text)) for slot, text in after.items() if before.get(slot) != text]
    if removing:
        changes += [Change(*slot, removed=True) for slot in before if slot not in after]
    return changes


def is_analysis(recorded: Recorded | None) -> bool:
    """Whether a session is one of these, and not deleted."""
    return recorded is not None and recorded.attributes.get(MARK) is True and recorded.status != "deleted"


def checked(session: Session) -> Session:
    """A copy of a session, every part of it checked: what programs set in one is theirs, and unchecked.

    Raises:
        InvalidInput: Something in it is nothing that an analysis session can hold.
    """
    state = session.state
    values = {name: getattr(session, name) for name in ("id", "user_id", "type", "assets", "tags", "expires_at")}
    return made(
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
    """The assets of a session; one that is no text, as another program may record it, as its JSON."""
    found = recorded.attributes.get("assets") or []
    return [it if isinstance(it, str) else canonical(it) for it in (found if isinstance(found, list) else [found])]


def session_of(recorded: Recorded, max_queries: int | None = None) -> Session:
    """The analysis session that a ledger's session holds.

    Raises:
        InvalidInput: It has no type that an analysis session can have.
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


def asked_at(value: dict[str, Any], otherwise: datetime) -> datetime:
    """When a recorded query was made; where it does not say, as one that another program added may not, otherwise."""
    try:
        return from_text(value["timestamp"])
    except (KeyError, InvalidInput):
        return max(otherwise, EPOCH)


def _query(query_id: str, value: dict[str, Any], otherwise: datetime) -> QueryRecord:
    """A recorded query, also one that was erased, or that another program added with whatever it had."""
    parameters, took = value.get("parameters") or {}, value.get("execution_time_ms")
    return QueryRecord(
        query_id=query_id,
        query_type=value.get("query_type", "erased"),
        parameters=parameters if isinstance(parameters, dict) else {"parameters": parameters},
        result_summary=value.get("result_summary"),
        cache_hit=bool(value.get("cache_hit")),
        execution_time_ms=took if isinstance(took, int | float) else None,
        timestamp=asked_at(value, otherwise),
    )
