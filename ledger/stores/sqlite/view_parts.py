"""Expressions of the views in the embedded store's file; see ``views``."""

from __future__ import annotations


def instant(column: str) -> str:
    """Return an expression that formats a column of microseconds as UTC text: ``2026-11-21 05:00:00.000000``."""
    # The remainder and not the quotient decides before 1970, where SQLite's division rounds up.
    micros = f"(({column}) % 1000000 + 1000000) % 1000000"
    return f"strftime('%Y-%m-%d %H:%M:%S', (({column}) - {micros}) / 1000000, 'unixepoch') || printf('.%06d', {micros})"


def part(name: str) -> str:
    """Return an expression for the JSON text of a key of the object ``value``; NULL if it has no such key."""
    # With two paths, json_extract gives an array of JSON texts. The second path leads nowhere: [PART,null]
    both = f"json_extract(value, '$.{name}', '$[0]')"
    return f"CASE WHEN json_type(value, '$.{name}') IS NOT NULL THEN substr({both}, 2, length({both}) - 7) END"


def text(name: str) -> str:
    """Return an expression for a scalar of the object ``value`` as text, like JSON_VALUE; NULL for anything else."""
    kind = f"json_type(value, '$.{name}')"
    return (
        f"CASE WHEN {kind} = 'text' THEN json_extract(value, '$.{name}') "
        f"WHEN {kind} NOT IN ('object', 'array', 'null') THEN {part(name)} END"
    )


#: Whether the session of ``slots`` is a fork: of others, the log need not be read.
_IS_FORK = "EXISTS (SELECT 1 FROM session_state WHERE session_id = slots.session_id AND field = 'lineage')"
#: Whether a fork recorded the first value of the register of ``slots``.
_FIRST_WRITE = """(
      SELECT first.event_type = 'session.copied' OR EXISTS (
        SELECT 1 FROM session_events AS lineage
        WHERE lineage.session_id = first.session_id AND lineage.version = first.version
          AND lineage.event_id = first.event_id AND lineage.field = 'lineage'
      )
      FROM session_events AS first
      WHERE first.session_id = slots.session_id AND first.field = '{field}' AND first.key = slots.key
        AND NOT first.removed
      ORDER BY first.version, first.event_id
      LIMIT 1
    )"""


def items(field: str, key: str, value: str) -> str:
    """Return a SELECT of the current values of an ordered field, each with its event's actor, times and owner.

    ``is_copy`` is 1 if a fork copied the value from another session.

    Args:
        field: The field.
        key: The name of the column with the key.
        value: An expression for the column ``value``.
    """
    return f"""  SELECT
    slots.session_id,
    slots.key AS {key},
    ROW_NUMBER() OVER (PARTITION BY slots.session_id ORDER BY slots.version, slots.key) AS position,
    {value},
    slots.version,
    events.actor,
    events.occurred_at,
    events.recorded_at,
    events.user_id,
    events.created_at,
    CASE WHEN {_IS_FORK} THEN {_FIRST_WRITE.format(field=field)} ELSE 0 END AS is_copy
  FROM session_state AS slots
  JOIN session_events AS events ON events.seq = slots.event_seq
  WHERE slots.field = '{field}'"""  # noqa: S608 - names of the views only


def number(name: str, kind: str) -> str:
    """Return an expression for a number of the object ``value``; NULL for anything else."""
    is_number = f"json_type(value, '$.{name}') IN ('integer', 'real')"
    return f"CASE WHEN {is_number} THEN CAST(json_extract(value, '$.{name}') AS {kind}) END"
