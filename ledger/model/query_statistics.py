"""Statistics of the queries of a session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class QueryStatistics:
    """Statistics of a session's queries.

    Attributes:
        total_queries, cache_hits: The number of queries, and how many of them were answered from a cache.
        cache_hit_rate: Cache hits per query, 0 to 1; 0 without queries.
        by_type: The number of queries of each type, most frequent first.
        total_execution_time_ms, average_execution_time_ms: Total and average over the queries that have an execution
            time, in milliseconds; None if no query has one.
    """

    total_queries: int
    cache_hits: int
    cache_hit_rate: float
    by_type: dict[str, int]
    total_execution_time_ms: float | None
    average_execution_time_ms: float | None

    @classmethod
    def of(cls, queries: Iterable[Mapping[str, Any] | None]) -> QueryStatistics:
        """Return the statistics of recorded ``query`` values; an erased value counts as a query."""
        values = [query or {} for query in queries]
        hits = sum(bool(query.get("cache_hit")) for query in values)
        types = Counter(str(query.get("query_type", "erased")) for query in values)
        times = [query.get("execution_time_ms") for query in values]
        taken = [time for time in times if isinstance(time, int | float) and not isinstance(time, bool)]
        return cls(
            len(values),
            hits,
            hits / len(values) if values else 0.0,
            dict(types.most_common()),
            sum(taken) if taken else None,
            sum(taken) / len(taken) if taken else None,
        )
