"""Models of an analysis session: queries, context, preferences, results.

To change a session, change its model, then pass it to ``SessionStore.update_session``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from ledger.clock import new_id, utc_now
from ledger.errors import InvalidInput
from ledger.model.json_form import json_form
from ledger.model.query_statistics import QueryStatistics

M = TypeVar("M", bound=BaseModel)
#: Owner of a session created without a user.
ANONYMOUS = "anonymous"


class SessionType(StrEnum):
    """Kind of analysis."""

    EQUITY = "equity"
    CRYPTO = "crypto"
    PORTFOLIO = "portfolio"
    COMPARATIVE = "comparative"
    MACRO = "macro"


def session_type_of(word: Any) -> SessionType:
    """Return the session type with this name.

    Raises:
        InvalidInput: There is no such type.
    """
    try:
        return SessionType(word)
    except ValueError as error:
        raise InvalidInput(f"session_type must be one of {', '.join(SessionType)}, not {str(word)[:70]!r}.") from error


def validated(model: type[M], values: Mapping[str, Any]) -> M:
    """Return an instance of ``model`` with these values.

    Raises:
        InvalidInput: A value does not fit the model; the message names the first such value.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInput(
            f"{where} {first['input']!r:.70} does not fit {model.__name__}: {first['msg']}. Nothing was written."
        ) from error


class TooManyQueries(InvalidInput):
    """The session holds the maximum number of queries; nothing was written.

    Attributes:
        session_id: The session.
        limit: The maximum, as set by ``session_max_queries_per_session``.
    """

    code = "too_many_queries"

    def __init__(self, message: str, *, session_id: str = "", limit: int = 0) -> None:
        super().__init__(message)
        self.session_id = session_id
        self.limit = limit

    @classmethod
    def of(cls, session_id: str, limit: int) -> Self:
        """Return the error for a session at its limit."""
        return cls(
            f"Session {session_id} has its {limit:,} queries (session_max_queries_per_session); create another "
            "session.",
            session_id=session_id,
            limit=limit,
        )


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class QueryRecord(_Model):
    """One query: type, parameters, result summary and execution time."""

    query_id: str = Field(default_factory=lambda: new_id(utc_now()))
    query_type: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    result_summary: Any = None
    cache_hit: bool = False
    execution_time_ms: float | None = None
    timestamp: AwareDatetime = Field(default_factory=utc_now)


class AnalysisHistory(_Model):
    """All queries of a session, with statistics over them."""

    queries: list[QueryRecord] = Field(default_factory=list)

    def add_query(self, query: QueryRecord) -> None:
        """Add a query. If there is a query with the same id, the new one replaces it."""
        for index, known in enumerate(self.queries):
            if known.query_id == query.query_id:
                self.queries[index] = query
                return
        self.queries.append(query)

    @property
    def statistics(self) -> QueryStatistics:
        """The statistics over all queries, in one object."""
        return QueryStatistics.of(query.model_dump() for query in self.queries)

    @property
    def total_queries(self) -> int:
        """Number of queries."""
        return len(self.queries)

    @property
    def cache_hits(self) -> int:
        """Number of queries answered from the cache."""
        return self.statistics.cache_hits

    @property
    def cache_hit_rate(self) -> float:
        """Share of queries answered from the cache, 0 to 1; 0 if there are no queries."""
        return self.statistics.cache_hit_rate

    @property
    def query_types(self) -> dict[str, int]:
        """Number of queries by type, most frequent first."""
        return self.statistics.by_type

    @property
    def average_execution_time_ms(self) -> float | None:
        """Average execution time of the queries that have one; None if none has."""
        return self.statistics.average_execution_time_ms

    @property
    def last_query(self) -> QueryRecord | None:
        """The query at the end of the list, or None if there are no queries."""
        return self.queries[-1] if self.queries else None


class SessionState(_Model):
    """State that accumulates over the queries of a session."""

    context: dict[str, Any] = Field(default_factory=dict)
    preferences: dict[str, Any] = Field(default_factory=dict)
    intermediate_results: dict[str, Any] = Field(default_factory=dict)
    history: AnalysisHistory = Field(default_factory=AnalysisHistory)

    def update_context(self, key: str, value: Any) -> None:
        """Set a context value."""
        self.context[key] = value

    def get_context(self, key: str, default: Any = None) -> Any:
        """Return a context value, or ``default`` if it is not set."""
        return self.context.get(key, default)

    def set_preference(self, key: str, value: Any) -> None:
        """Set a preference of the user."""
        self.preferences[key] = value

    def get_preference(self, key: str, default: Any = None) -> Any:
        """Return a preference of the user, or ``default`` if it is not set."""
        return self.preferences.get(key, default)

    def store_intermediate_result(self, key: str, value: Any) -> None:
        """Store a result for later queries."""
        self.intermediate_results[key] = value

    def get_intermediate_result(self, key: str, default: Any = None) -> Any:
        """Return a stored result, or ``default`` if there is none."""
        return self.intermediate_results.get(key, default)


class Session(_Model):
    """An analysis session. ``SessionStore.update_session`` records the changes made to it.

    Attributes:
        id: The session's id; also ``session_id``.
        is_archived: True if the session is recorded as expired or archived.
        last_accessed_at: Time of the last recorded event, or of the last ``touch``.
    """

    id: str = Field(default_factory=lambda: new_id(utc_now()))
    user_id: str = ANONYMOUS
    type: SessionType = SessionType.EQUITY
    assets: list[str] = Field(default_factory=list)
    state: SessionState = Field(default_factory=SessionState)
    tags: list[str] = Field(default_factory=list)
    created_at: AwareDatetime = Field(default_factory=utc_now)
    expires_at: AwareDatetime | None = None
    last_accessed_at: AwareDatetime = Field(default_factory=utc_now)
    is_archived: bool = False

    #: JSON text of each register, as the store returned it; None if the session is not from a store.
    _recorded: dict[tuple[str, str], str] | None = PrivateAttr(default=None)
    _max_queries: int | None = PrivateAttr(default=None)

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self.id

    @property
    def session_type(self) -> SessionType:
        """The session's type."""
        return self.type

    @property
    def is_expired(self) -> bool:
        """True if the session has expired by the system clock."""
        return self.is_expired_at(utc_now())

    def is_expired_at(self, now: datetime) -> bool:
        """Return True if the session has expired at a given time."""
        return self.expires_at is not None and self.expires_at <= now

    @property
    def time_remaining(self) -> timedelta | None:
        """Time until expiry by the system clock; None if the session never expires."""
        return None if self.expires_at is None else max(timedelta(0), self.expires_at - utc_now())

    @property
    def duration(self) -> timedelta:
        """Time from creation to last access."""
        return max(timedelta(0), self.last_accessed_at - self.created_at)

    def add_query(self, query: QueryRecord) -> None:
        """Add a query to the history.

        Raises:
            TooManyQueries: The session is from a store and holds the maximum number of queries; nothing was added.
        """
        known = {it.query_id for it in self.state.history.queries}
        if self._max_queries is not None and len(known | {query.query_id}) > self._max_queries:
            raise TooManyQueries.of(self.id, self._max_queries)
        self.state.history.add_query(query)
        self.touch()

    def touch(self, now: datetime | None = None) -> None:
        """Set ``last_accessed_at`` to ``now``, by default to the current time."""
        self.last_accessed_at = now or datetime.now(UTC)

    def to_dict(self) -> dict[str, Any]:
        """Return the session as a dict of JSON values. Its history also contains statistics.

        Raises:
            InvalidInput: A value, which was set and not recorded yet, has no usual JSON form.
        """
        data: dict[str, Any] = json_form(self.model_dump(), "session")
        history = self.state.history
        data["state"]["history"] |= {
            "total_queries": history.total_queries,
            "cache_hits": history.cache_hits,
            "cache_hit_rate": history.cache_hit_rate,
            "query_types": history.query_types,
        }
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Recreate a session from a dict that ``to_dict`` returned. Statistics in the dict are ignored.

        Raises:
            pydantic.ValidationError: The data is not an analysis session.
        """
        state = dict(data.get("state") or {})
        if "history" in state:
            state["history"] = {"queries": state["history"].get("queries", [])}
        return cls.model_validate({**data, "state": state})


class SessionSummary(_Model):
    """An entry in a list of sessions."""

    id: str
    user_id: str
    type: SessionType
    assets: list[str]
    tags: list[str]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    last_accessed_at: AwareDatetime
    total_queries: int
    cache_hit_rate: float
    is_archived: bool

    @classmethod
    def from_session(cls, session: Session) -> Self:
        """Return the summary of a session."""
        own = {name: getattr(session, name) for name in cls.model_fields if name in type(session).model_fields}
        history = session.state.history
        return cls(**own, total_queries=history.total_queries, cache_hit_rate=history.cache_hit_rate)
