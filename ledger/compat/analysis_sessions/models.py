"""Analysis sessions as programs hold them: queries, context, preferences, results; changed at will and then saved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from ledger.clock import new_id, utc_now
from ledger.errors import InvalidInput
from ledger.model.session import QueryStatistics

M = TypeVar("M", bound=BaseModel)
#: Owner of a session that names none.
ANONYMOUS = "anonymous"


class SessionType(StrEnum):
    """What is analysed."""

    EQUITY = "equity"
    CRYPTO = "crypto"
    PORTFOLIO = "portfolio"
    COMPARATIVE = "comparative"
    MACRO = "macro"


def session_type_of(word: Any) -> SessionType:
    """The type of this name.

    Raises:
        InvalidInput: There is none.
    """
    try:
        return SessionType(word)
    except ValueError as error:
        raise InvalidInput(f"session_type must be one of {', '.join(SessionType)}, not {str(word)[:70]!r}.") from error


def made(model: type[M], values: Mapping[str, Any]) -> M:
    """A model of these values, every part of them checked.

    Raises:
        InvalidInput: They are none; the message names the first part that does not fit.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInput(
            f"{where} {first['input']!r:.70} is nothing that a {model.__name__} can hold: {first['msg']}. Nothing was "
            "written."
        ) from error


class TooManyQueries(InvalidInput):
    """The session has as many queries as it may have; nothing was written.

    Attributes:
        session_id: The session.
        limit: ``session_max_queries_per_session``.
    """

    code = "too_many_queries"

    def __init__(self, message: str, *, session_id: str = "", limit: int = 0) -> None:
        super().__init__(message)
        self.session_id = session_id
        self.limit = limit

    @classmethod
    def of(cls, session_id: str, limit: int) -> Self:
        """The error for a session that is full."""
        return cls(
            f"Session {session_id} has its {limit:,} queries (session_max_queries_per_session); begin another.",
            session_id=session_id,
            limit=limit,
        )


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class QueryRecord(_Model):
    """One query: what it was asked with, what came out, how long it took."""

    query_id: str = Field(default_factory=lambda: new_id(utc_now()))
    query_type: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    result_summary: Any = None
    cache_hit: bool = False
    execution_time_ms: float | None = None
    timestamp: AwareDatetime = Field(default_factory=utc_now)


class AnalysisHistory(_Model):
    """All queries of a session, and what they amount to so far."""

    queries: list[QueryRecord] = Field(default_factory=list)

    def add_query(self, query: QueryRecord) -> None:
        """Add a query; one with the same id is replaced."""
        for index, known in enumerate(self.queries):
            if known.query_id == query.query_id:
                self.queries[index] = query
                return
        self.queries.append(query)

    @property
    def statistics(self) -> QueryStatistics:
        """All statistics at once."""
        return QueryStatistics.of(query.model_dump() for query in self.queries)

    @property
    def total_queries(self) -> int:
        """How many queries there were."""
        return len(self.queries)

    @property
    def cache_hits(self) -> int:
        """How many of them the cache answered."""
        return self.statistics.cache_hits

    @property
    def cache_hit_rate(self) -> float:
        """Their share, 0 to 1; 0 where there were none."""
        return self.statistics.cache_hit_rate

    @property
    def query_types(self) -> dict[str, int]:
        """How many there were of each type, the most frequent first."""
        return self.statistics.by_type

    @property
    def average_execution_time_ms(self) -> float | None:
        """Of those that say how long they took; None where none does."""
        return self.statistics.average_execution_time_ms

    @property
    def last_query(self) -> QueryRecord | None:
        """The previous query."""
        return self.queries[-1] if self.queries else None


class SessionState(_Model):
    """What accumulates over the queries of a session."""

    context: dict[str, Any] = Field(default_factory=dict)
    preferences: dict[str, Any] = Field(default_factory=dict)
    intermediate_results: dict[str, Any] = Field(default_factory=dict)
    history: AnalysisHistory = Field(default_factory=AnalysisHistory)

    def update_context(self, key: str, value: Any) -> None:
        """Set a name of the context."""
        self.context[key] = value

    def get_context(self, key: str, default: Any = None) -> Any:
        """What the context holds under a name."""
        return self.context.get(key, default)

    def set_preference(self, key: str, value: Any) -> None:
        """Set a preference of the user."""
        self.preferences[key] = value

    def get_preference(self, key: str, default: Any = None) -> Any:
        """A preference of the user."""
        return self.preferences.get(key, default)

    def store_intermediate_result(self, key: str, value: Any) -> None:
        """Keep a result that later queries build upon."""
        self.intermediate_results[key] = value

    def get_intermediate_result(self, key: str, default: Any = None) -> Any:
        """A result that was kept."""
        return self.intermediate_results.get(key, default)


class Session(_Model):
    """An analysis session. Change it as you like; ``SessionStore.update_session`` records what you changed.

    Attributes:
        id: Its id; also ``session_id``.
        is_archived: Whether it is over: expired, and recorded so, or archived.
        last_accessed_at: When something was last recorded, or ``touch`` called.
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

    #: What of it is recorded, slot by slot, as it was loaded; None for one that was not.
    _recorded: dict[tuple[str, str], str] | None = PrivateAttr(default=None)
    _max_queries: int | None = PrivateAttr(default=None)

    @property
    def session_id(self) -> str:
        """Its id."""
        return self.id

    @property
    def session_type(self) -> SessionType:
        """Its type."""
        return self.type

    @property
    def is_expired(self) -> bool:
        """Whether its time is over by the machine's clock."""
        return self.is_expired_at(utc_now())

    def is_expired_at(self, now: datetime) -> bool:
        """Whether its time is over at a time."""
        return self.expires_at is not None and self.expires_at <= now

    @property
    def time_remaining(self) -> timedelta | None:
        """How long it goes on, by the machine's clock; None for ever."""
        return None if self.expires_at is None else max(timedelta(0), self.expires_at - utc_now())

    @property
    def duration(self) -> timedelta:
        """From its beginning to what happened last."""
        return max(timedelta(0), self.last_accessed_at - self.created_at)

    def add_query(self, query: QueryRecord) -> None:
        """Add a query to the history.

        Raises:
            TooManyQueries: The session, which a store gave, has as many as it may have.
        """
        known = {it.query_id for it in self.state.history.queries}
        if self._max_queries is not None and len(known | {query.query_id}) > self._max_queries:
            raise TooManyQueries.of(self.id, self._max_queries)
        self.state.history.add_query(query)
        self.touch()

    def touch(self, now: datetime | None = None) -> None:
        """Note that it is used now."""
        self.last_accessed_at = now or datetime.now(UTC)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it, with the statistics of the history beside its queries."""
        made = self.model_dump(mode="json")
        history = self.state.history
        made["state"]["history"] |= {
            "total_queries": history.total_queries,
            "cache_hits": history.cache_hits,
            "cache_hit_rate": history.cache_hit_rate,
            "query_types": history.query_types,
        }
        return made

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What ``to_dict`` made of one; statistics are worked out anew.

        Raises:
            pydantic.ValidationError: It is none.
        """
        state = dict(data.get("state") or {})
        if "history" in state:
            state["history"] = {"queries": state["history"].get("queries", [])}
        return cls.model_validate({**data, "state": state})


class SessionSummary(_Model):
    """What a list of sessions shows of each."""

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
        """The summary of a session."""
        own = {name: getattr(session, name) for name in cls.model_fields if name in type(session).model_fields}
        history = session.state.history
        return cls(**own, total_queries=history.total_queries, cache_hit_rate=history.cache_hit_rate)
