"""Deep checks of values: what parameters, parsing and streams do to them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ledger.cli.doctor.deep.check import Check, Observed, compared
from ledger.cli.doctor.deep.scratch import Scratch
from ledger.errors import StoreError
from ledger.model.queries import SessionQuery
from ledger.model.values import canonical
from ledger.warehouse.projection import Projection

#: Doubles that exact parsing of JSON is known to refuse in their shortest spelling.
DOUBLES = (67.174118, 50.0007544437, 1687473876.057356)
#: Values that a stream might change.
DELICATE: tuple[Any, ...] = (
    1,
    1.0,
    -0.0,
    None,
    "\x00",
    2**64 - 1,
    -(2**63),
    5e-324,
    1e300,
    {"b": 1, "a": [None, True]},
)
_MODES = ("exact", "round")


def empty_array(scratch: Scratch) -> Observed:
    """Ask what an empty array parameter is in SQL, and list sessions without criteria."""
    sql = "SELECT IFNULL(ARRAY_LENGTH(@ids), -1) AS length"
    length = scratch.warehouse.query(sql, {"ids": []}, operation="doctor").rows[0][0]
    session_id, created_at = scratch.new_session()
    scratch.append(scratch.rows(session_id, created_at, [canonical("active")], field="status"))
    until = created_at + timedelta(minutes=1)
    listed = Projection(scratch.warehouse).sessions(
        created_at - timedelta(minutes=1), until, before=(until, ""), query=SessionQuery(), wanted=[], at_most=100
    )
    found = session_id in [each.session_id for each in listed]
    arrives = "NULL" if length == -1 else f"an array of {length}"
    return compared(
        found, f"it arrives as {arrives}; a list without criteria {'has' if found else 'lacks'} the session"
    )


def doubles(scratch: Scratch) -> Observed:
    """Parse and stream doubles whose shortest spelling exact parsing may refuse."""
    texts = [canonical(double) for double in DOUBLES]
    parsed = {mode: [_parsed(scratch, mode, text) for text in texts] for mode in _MODES}
    shortest = [_streamed(scratch, text) for text in texts]
    session_id, created_at = scratch.new_session()
    scratch.append(scratch.rows(session_id, created_at, texts))
    kept = _values(scratch, session_id, len(texts)) == texts
    rounds = all(
        found is not None and float(found) == double for found, double in zip(parsed["round"], DOUBLES, strict=True)
    )
    detail = (
        f"PARSE_JSON refuses {parsed['exact'].count(None)} of {len(texts)} by 'exact' and "
        f"{parsed['round'].count(None)} by 'round', which {'keeps' if rounds else 'does not keep'} the double; a "
        f"stream refuses {shortest.count(False)} in their shortest spelling, and {'keeps' if kept else 'changes'} "
        "those that the ledger sends"
    )
    return compared(rounds and kept, detail)


def delicate_values(scratch: Scratch) -> Observed:
    """Stream values that JSON parsers may change, and read them as the ledger does."""
    texts = [canonical(value) for value in DELICATE]
    session_id, created_at = scratch.new_session()
    scratch.append(scratch.rows(session_id, created_at, texts))
    found = _values(scratch, session_id, len(texts))
    changed = [f"{text} as {other}" for text, other in zip(texts, found, strict=True) if text != other]
    if changed:
        return compared(False, f"come back changed: {', '.join(changed)}")
    return compared(True, f"{len(texts)} values come back as they were sent: {', '.join(texts)}")


def _parsed(scratch: Scratch, mode: str, text: str) -> str | None:
    """Return the text of a number after PARSE_JSON; None if it is refused."""
    sql = f"SELECT TO_JSON_STRING(PARSE_JSON(@text, wide_number_mode => '{mode}')) AS text"
    try:
        found: str = scratch.warehouse.query(sql, {"text": text}, operation="doctor").rows[0][0]
    except StoreError as error:
        if error.retryable:
            raise
        return None
    return found


def _streamed(scratch: Scratch, text: str) -> bool:
    """Return True if a stream takes a JSON text as it is."""
    session_id, created_at = scratch.new_session()
    try:
        scratch.append(scratch.rows(session_id, created_at, [text], raw=True))
    except StoreError as error:
        if error.retryable:
            raise
        return False
    return True


def _values(scratch: Scratch, session_id: str, count: int) -> list[str | None]:
    """Return the texts of a session's values, as the ledger reads them; None for a value that is not there."""
    found = Projection(scratch.warehouse).state(session_id)
    state = {} if found is None else found[1]
    registers = (state.get(("context", str(number))) for number in range(count))
    return [None if register is None else register.text for register in registers]


CHECKS = (
    Check(
        "empty array parameter",
        "NULL or an empty array; lists do not depend on it",
        "sql/statements/list_sessions.sql",
        "python-bigquery issues 2325 and 2360",
        60,
        empty_array,
    ),
    Check(
        "doubles",
        "'round' and the ledger's spelling for streams keep every double; 'exact' refuses one in a thousand",
        "sql/statements/append_checked.sql, ledger/warehouse/arrow_rows.py",
        "zetasql CheckNumberRoundtrip; airbyte issues 29590 and 29594",
        20,
        doubles,
    ),
    Check(
        "delicate values by stream",
        "1.0, -0.0, null, \\u0000 and the largest integers come back as they were sent",
        "ledger/warehouse/projection.py",
        "Storage Write API, data type conversions: formatting of JSON may not be preserved",
        20,
        delicate_values,
    ),
)
