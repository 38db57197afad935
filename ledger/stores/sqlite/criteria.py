"""Criteria of lists in the embedded store: SQL conditions on ``session_heads``."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from ledger.errors import InvalidInput
from ledger.model.equality import canonical_texts, equal_texts
from ledger.model.fields import check_change
from ledger.model.instants import to_micros, to_text
from ledger.model.lifetime import CLOSED, DONE
from ledger.model.queries import SessionQuery
from ledger.model.values import canonical, check_text

#: Maximum number of criteria of a list, and of their values. SQLite nests each criterion, to a depth of 1,000.
MAX_CRITERIA, MAX_VALUES = 500, 10_000
_REGISTER = (
    "(SELECT value FROM session_state WHERE session_id = session_heads.session_id AND field = '{}' AND key = '')"
)
_SHARED = (
    "session_id IN (SELECT session_id FROM session_state WHERE field = 'grant' AND key = ? "
    "AND value IN ('\"read\"', '\"write\"'))"
)
#: The condition of the partial index on attributes and tags, which a query must repeat.
_INDEXED = "field IN ('attribute', 'tag')"
_ATTRIBUTE_TEXTS = (
    "SELECT DISTINCT value FROM session_state "  # noqa: S608
    f"WHERE field = 'attribute' AND key = ? AND {_INDEXED} AND value >= ? AND value < ?"
)


def conditions_of(connection: sqlite3.Connection, query: SessionQuery) -> tuple[list[str], list[Any]]:
    """Return the conditions on ``session_heads`` that a query stands for, and the values of their parameters.

    Raises:
        InvalidInput: A criterion is invalid, or there are too many.
    """
    conditions: list[str] = []
    parameters: list[Any] = []

    def require(condition: str, *values: Any) -> None:
        conditions.append(condition)
        parameters.extend(values)

    register = "SELECT {} FROM session_state WHERE {}field = ? AND key = ?"
    has_register = "EXISTS (" + register.format("1", "session_id = session_heads.session_id AND ") + " AND value = ?)"
    indexed = "session_id IN (" + register.format("session_id", "") + f" AND {_INDEXED}{{}})"
    if query.user_id is not None:
        require("user_id = ?", check_text(query.user_id, "user_id"))
    if query.created_from is not None:
        require("created_at >= ?", to_micros(query.created_from, "created_from"))
    if query.created_until is not None:
        require("created_at < ?", to_micros(query.created_until, "created_until"))
    _require_status(query, require)
    if query.session_type is not None:
        check_change("session_type", "", query.session_type, removed=False)
        require(has_register, "session_type", "", canonical(query.session_type, "session_type"))
    if query.tag is not None:
        require(indexed.format(""), "tag", check_text(query.tag, "tag"))
    if query.granted_to is not None:
        require(_SHARED, check_text(query.granted_to, "granted_to"))
    if not isinstance(query.attributes, Mapping):
        raise InvalidInput(f"attributes must be an object of name to value, not {type(query.attributes).__name__}.")
    for name, value in query.attributes.items():
        check_text(name, "The name of an attribute")
        texts = canonical(_attribute_texts(connection, name, value))
        require(indexed.format(" AND value IN (SELECT value FROM json_each(?))"), "attribute", name, texts)
    if len(conditions) > MAX_CRITERIA or len(parameters) > MAX_VALUES:
        raise InvalidInput(
            f"A list takes at most {MAX_CRITERIA} criteria, and this one has {len(conditions):,} with "
            f"{len(parameters):,} values; narrow it down, and compare the rest in your program."
        )
    return conditions, parameters


def _attribute_texts(connection: sqlite3.Connection, name: str, value: Any) -> list[str]:
    """Return the texts in ``session_state`` with which an attribute has a value; see ``ledger.model.equality``.

    An array or object that contains numbers is compared with each distinct array or object of the attribute.
    """
    texts = canonical_texts(value, f"attribute {name}")
    if texts is None:
        first, beyond = ("{", "|") if isinstance(value, Mapping) else ("[", "\\")
        stored = connection.execute(_ATTRIBUTE_TEXTS, (name, first, beyond)).fetchall()
        texts = equal_texts(value, (text for (text,) in stored))
    return texts


def _require_status(query: SessionQuery, require: Callable[..., None]) -> None:
    """Call ``require`` with each of the query's conditions on the status and on ``updated_at``.

    ``lifetime.status_at`` defines the status at a time.
    """
    if query.updated_before is not None:
        require("updated_at < ?", to_micros(query.updated_before, "updated_before"))
    status, values = _REGISTER.format("status"), []
    if query.at is not None:  # as JSON text: null, which means never, sorts after every time
        values = [canonical(to_text(query.at, "at")), *(canonical(word) for word in (*DONE, *CLOSED))]
        words = ", ".join("?" * (len(values) - 1))
        is_over = f"{_REGISTER.format('expires_at')} <= ? AND IFNULL({status}, '') NOT IN ({words})"
        if query.unswept:
            require(is_over, *values)
        status = f"CASE WHEN {is_over} THEN '\"expired\"' ELSE {status} END"
    if query.status is not None:
        require(f"{status} = ?", *values, canonical(check_change("status", "", query.status, removed=False)))
    if query.without:
        unwanted = [canonical(check_text(word, "status")) for word in query.without]
        require(f"IFNULL({status}, '') NOT IN ({', '.join('?' * len(unwanted))})", *values, *unwanted)
