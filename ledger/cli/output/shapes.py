"""JSON output of the commands. Keys may be added, and are never renamed or removed."""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
import orjson

from ledger.cli.output.text import counted, one_line, safe
from ledger.cli.wording import in_commands
from ledger.model.events import AppendResult
from ledger.model.instants import to_text

if TYPE_CHECKING:
    from ledger.errors import LedgerError
    from ledger.formats.events import Imported

#: Microseconds of a day.
_DAY = 86_400_000_000


def print_json(value: Any) -> None:
    """Print a value as indented JSON with control characters escaped."""
    click.echo(json_text(value))


def json_text(value: Any, *, indent: bool = True) -> str:
    """Return a value as JSON text that is safe to print on a terminal.

    Control characters are escaped. The escapes do not change the value that the text parses to.
    """
    options = (orjson.OPT_INDENT_2 if indent else 0) | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS
    return safe(orjson.dumps(value, default=_other, option=options).decode())


def with_float_texts(value: Any) -> Any:
    """Return a value in which NaN and infinities are texts, as in BigQuery's JSON: ``NaN``, ``Infinity``."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: with_float_texts(item) for key, item in value.items()}
    return [with_float_texts(item) for item in value] if isinstance(value, list | tuple) else value


def appended_object(appended: AppendResult) -> dict[str, Any]:
    """Return the result of an append as a JSON object."""
    return {
        "session_id": appended.session_id,
        "version": appended.version,
        "event_id": appended.event_id,
        "replayed": appended.replayed,
    }


def print_appended(appended: AppendResult, as_json: bool) -> None:
    """Print the result of an append, as JSON or as a sentence with the session's version."""
    if as_json:
        print_json(appended_object(appended))
    else:
        replayed = ", recorded before" if appended.replayed else ""
        click.echo(f"{safe(appended.session_id)} is at version {appended.version}{replayed}.")


def print_imported(done: Imported, as_json: bool, refused: Sequence[LedgerError] | None = None) -> None:
    """Print the result of an import.

    Args:
        refused: The errors of what was left out, which are listed; None if an error would have ended the import.
    """
    messages = None if refused is None else [in_commands(str(error)) for error in refused]
    for message in messages or ():
        click.echo(f"left out: {one_line(message)}", err=True)
    if as_json:
        left_out = {} if messages is None else {"left_out": messages}
        print_json({"sessions": done.sessions, "events": done.events, "new_events": done.new, **left_out})
    else:
        known = done.events - done.new
        click.echo(
            f"{counted(done.sessions, 'session')}, {counted(done.events, 'event')}: {done.new:,} new"
            + (f", {known:,} already recorded" if known else "")
            + (f"; {len(messages):,} left out." if messages else ".")
        )


def to_terminal() -> bool:
    """Return True if stdout is a terminal."""
    return sys.stdout.isatty()


def _other(value: Any) -> Any:
    if isinstance(value, datetime):  # a DATETIME has no time zone, a TIMESTAMP has one
        return value.isoformat(timespec="microseconds") if value.tzinfo is None else to_text(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, timedelta):
        microseconds = value // timedelta(microseconds=1)
        days = abs(microseconds) // _DAY * (1 if microseconds > 0 else -1)
        return _interval(0, days, microseconds - days * _DAY)
    if type(value).__name__ == "relativedelta":  # BigQuery's client gives an INTERVAL as one
        seconds = (value.hours * 60 + value.minutes) * 60 + value.seconds
        return _interval(value.years * 12 + value.months, value.days, seconds * 1_000_000 + value.microseconds)
    return str(value)


def _interval(months: int, days: int, microseconds: int) -> str:
    """Return the parts of an INTERVAL in GoogleSQL's text form: ``1-2 3 4:5:6.5``."""
    years, rest = divmod(abs(months), 12)
    seconds, fraction = divmod(abs(microseconds), 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    part = f".{fraction:06}".rstrip("0") if fraction else ""
    months_sign, time_sign = ("-" if number < 0 else "" for number in (months, microseconds))
    return f"{months_sign}{years}-{rest} {days} {time_sign}{hours}:{minutes}:{seconds}{part}"
