"""``ledger export``: events, chat runs and rows of views as files."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened, together
from ledger.cli.commands.read import point_in_time
from ledger.cli.output.csv_text import check_csv_safe, csv_lines, with_csv_safe
from ledger.cli.output.progress import progress
from ledger.cli.output.shapes import print_json, to_terminal
from ledger.cli.output.text import counted, safe
from ledger.cli.session_ids import SESSION
from ledger.cli.values import parse_pairs
from ledger.files import whole_file
from ledger.settings import LEDGER_WAREHOUSE

if TYPE_CHECKING:
    from ledger.formats.chat_export import LeftOut
    from ledger.sdk.ledger import SessionLedger
    from ledger.warehouse.answer import Answer

COMMANDS: dict[str, click.Command] = {}
#: Views, and functions over days, that --view takes. The first have the rows of sessions, which have an owner.
SESSION_VIEWS = (
    *("session_metrics", "session_items", "messages", "tool_calls", "model_calls", "queries", "scores", "errors"),
)
DAY_VIEWS = (
    *("daily_activity", "user_activity", "tool_usage", "model_usage", "storage_growth"),
    *("outcomes", "attribute_distribution", "top_assets", "cohorts"),
)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Which sessions are exported: those that are named, or else those that meet the criteria."""

    session_ids: tuple[str, ...]
    user_id: str | None
    since: datetime | None
    until: datetime | None


_which = together(
    click.option("--user", "user_id", help="Export only sessions of this user."),
    click.option(
        "--since", type=point_in_time, metavar="TIME", help="Export only sessions created at or after this time or day."
    ),
    click.option(
        "--until", type=point_in_time, metavar="TIME", help="Export only sessions created before this time or day."
    ),
)
_of_chats = together(
    click.option("--status", help="openai-chat: export only sessions with this status, such as completed."),
    click.option(
        "--attribute",
        "attributes",
        multiple=True,
        metavar="NAME=TEXT|NAME:=JSON",
        help="openai-chat: export only sessions with this attribute value. May be repeated.",
    ),
    click.option(
        "--min-score",
        "min_scores",
        multiple=True,
        metavar="NAME=NUMBER",
        help="openai-chat: export only sessions whose scores of this name are at least NUMBER. May be repeated.",
    ),
    click.option(
        "--messages-only",
        is_flag=True,
        help="openai-chat: write only messages, with the keys that OpenAI's API has for them, as fine-tuning requires.",
    ),
)


@command(
    "export",
    "ledger export --output ledger.jsonl",
    "ledger export SESSION_ID | jq .event_type",
    "ledger export --format parquet --since 2026-11-01 --output events/",
    "ledger export --format openai-chat --status completed --min-score quality=4 --output runs.jsonl",
    "ledger export --format otel --since 2026-11-30 --output spans.jsonl",
    "ledger export --view session_metrics --since 2026-11-01 --output sessions.csv",
    into=COMMANDS,
)
@click.argument("session_ids", nargs=-1, type=SESSION, metavar="[SESSION_ID]...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["events", "parquet", "openai-chat", "otel", "csv"]),
    help="events: JSON Lines, one event each. parquet: a folder with one folder a day, created_date=2026-11-30, of "
    "Parquet files with the columns of the table session_events. openai-chat: one session per line as messages in the "
    "form of OpenAI's Chat Completions. otel: one session per line as OpenTelemetry spans (OTLP/JSON), by the "
    "conventions for generative AI 0.1.0. csv: the rows of --view.  [default: events, or csv with --view]",
)
@click.option(
    "--view",
    type=click.Choice([*SESSION_VIEWS, *DAY_VIEWS]),
    metavar="VIEW",
    help="Export the rows of this view or function over days (docs/analytics.md) as CSV or as one Parquet file.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    help="File to write, or - for stdout. It appears or is replaced once it is complete. Only its owner may read a new "
    "file. For Parquet of events, a folder that does not exist or is empty.  [default: stdout]",
)
@_which
@_of_chats
@with_csv_safe
def export(
    as_json: bool,
    url: str | None,
    session_ids: tuple[str, ...],
    form: str | None,
    view: str | None,
    output: Path | None,
    user_id: str | None,
    since: datetime | None,
    until: datetime | None,
    status: str | None,
    attributes: tuple[str, ...],
    min_scores: tuple[str, ...],
    messages_only: bool,
    csv_safe: bool,
) -> None:
    """Export the events of the given sessions, or of all sessions; or their messages; or the rows of a view.

    `ledger import` restores events byte for byte, from JSON Lines and from Parquet, and reads the runs of openai-chat.
    --view exports the last seven days if --since and --until are not given. --json requires --output, and prints what
    was written.
    """
    form = form or ("events" if view is None else "csv")
    output = None if output == Path("-") else output
    chosen = _Chosen(session_ids, user_id, since, until)
    criteria = {
        "--status": status,
        "--attribute": attributes,
        "--min-score": min_scores,
        "--messages-only": messages_only,
    }
    _check(form, view, chosen, output, criteria, as_json)
    check_csv_safe(csv_safe, form)
    with opened(url) as ledger:
        if output is not None:
            from ledger.tiers.opening import check_output

            check_output(ledger.store, output, LEDGER_WAREHOUSE.text())
        if view is not None:
            done = _export_view(ledger, view, form, chosen, output, csv_safe)
        elif form == "openai-chat":
            ids = session_ids or _listed(ledger, chosen, status, parse_pairs(attributes, "--attribute"))
            done = _export_chats(ledger, ids, _scores(min_scores), messages_only, output)
        elif form == "otel":
            done = _export_spans(ledger, chosen, output)
        elif form == "parquet" and output is not None:
            done = _export_parquet(ledger, chosen, output)
        else:
            done = _export_events(ledger, chosen, output)
    if as_json:
        print_json(done.document)
    else:
        click.echo(done.text, err=True)


@dataclass(frozen=True, slots=True)
class _Done:
    """What an export wrote: as --json prints it, and as text."""

    document: Mapping[str, Any]
    text: str


def _check(
    form: str, view: str | None, chosen: _Chosen, output: Path | None, of_chats: Mapping[str, Any], as_json: bool
) -> None:
    """Raise UsageError for options that exclude or require each other."""
    context = click.get_current_context()
    named = [name for name, value in of_chats.items() if value]
    criteria = {"--user": chosen.user_id, "--since": chosen.since, "--until": chosen.until} | dict(of_chats)
    del criteria["--min-score"], criteria["--messages-only"]
    given = [name for name, value in criteria.items() if value]
    if form == "csv" and view is None:
        raise click.UsageError("--format csv requires --view VIEW.", context)
    if view is not None and form not in ("csv", "parquet"):
        raise click.UsageError("--view requires --format csv or --format parquet.", context)
    if view is not None and chosen.session_ids:
        raise click.UsageError("--view takes no SESSION_ID; choose days with --since and --until.", context)
    if view in DAY_VIEWS and chosen.user_id is not None:
        raise click.UsageError(f"--user requires one of the views {', '.join(SESSION_VIEWS)}.", context)
    if named and form != "openai-chat":
        raise click.UsageError(f"{named[0]} requires --format openai-chat.", context)
    if chosen.session_ids and given:
        raise click.UsageError(f"Give either a SESSION_ID or {given[0]}.", context)
    if form == "parquet" and output is None:
        what = "FOLDER" if view is None else "FILE"
        raise click.UsageError(f"--format parquet requires --output {what}.", context)
    if output is not None and output.is_dir() and (form != "parquet" or view is not None):
        raise click.BadParameter(f"File '{output}' is a directory.", context, param_hint="'-o' / '--output'")
    if as_json and output is None:
        what = "is JSON" if form in ("events", "openai-chat", "otel") else "goes to stdout"
        raise click.UsageError(f"The export itself {what}; --json requires --output.", context)


def _export_events(ledger: SessionLedger, chosen: _Chosen, output: Path | None) -> _Done:
    from ledger.formats.events import export_lines

    lines = export_lines(ledger.store, chosen.session_ids or None, query=_query(chosen))
    count = _write(lines, output, "Exporting events")
    return _Done({"events": count}, f"{counted(count, 'event')} exported.")


def _export_parquet(ledger: SessionLedger, chosen: _Chosen, folder: Path) -> _Done:
    from ledger.formats.parquet import export_parquet

    with progress("Exporting events") as advance:
        done = export_parquet(
            ledger.store, folder, chosen.session_ids or None, query=_query(chosen), seen=lambda: advance(1)
        )
    counts = f"{counted(done.sessions, 'session')}, {counted(done.events, 'event')}, {counted(done.files, 'file')}"
    return _Done(asdict(done), f"{counts} exported.")


def _export_chats(
    ledger: SessionLedger,
    session_ids: Iterable[str],
    min_scores: Mapping[str, float],
    messages_only: bool,
    output: Path | None,
) -> _Done:
    from ledger.formats.chat_export import export_chats

    left_out: list[LeftOut] = []
    lines = export_chats(
        ledger.store, session_ids, messages_only=messages_only, min_scores=min_scores, leave_out=left_out.append
    )
    count = _write(lines, output, "Exporting sessions")
    reasons = Counter(each.reason for each in left_out)
    text = [f"{counted(number, 'session')} left out: {reason}." for reason, number in reasons.items()]
    document = {"sessions": count, "left_out": [asdict(each) for each in left_out]}
    return _Done(document, safe("\n".join([*text, f"{counted(count, 'session')} exported."])))


def _export_spans(ledger: SessionLedger, chosen: _Chosen, output: Path | None) -> _Done:
    from ledger.formats.otel_genai_0_1 import export_spans

    lines = export_spans(ledger.store, chosen.session_ids or None, query=_query(chosen))
    count = _write(lines, output, "Exporting sessions")
    return _Done({"sessions": count}, f"{counted(count, 'session')} exported.")


def _export_view(
    ledger: SessionLedger, view: str, form: str, chosen: _Chosen, output: Path | None, csv_safe: bool
) -> _Done:
    answer = _answer(ledger, view, chosen)
    if form == "parquet":
        table = answer.to_arrow()
        import pyarrow.parquet as pq

        with _target(output) as file:
            pq.write_table(table, file, compression="zstd")
    else:
        rows = csv_lines(answer.columns, answer.rows, csv_safe=csv_safe)
        with _target(output) as file:
            for line in rows:
                file.write(line.encode())
            file.flush()
    return _Done({"view": view, "rows": len(answer)}, f"{counted(len(answer), 'row')} exported.")


def _answer(ledger: SessionLedger, view: str, chosen: _Chosen) -> Answer:
    """Return the rows of a view for the days from --since until --until."""
    from ledger.analytics import Analytics

    for name, at in (("--since", chosen.since), ("--until", chosen.until)):
        if at is not None and (at - datetime.min.replace(tzinfo=at.tzinfo)) % _DAY:
            raise click.UsageError(f"With --view, {name} is a day, such as 2026-11-21.", click.get_current_context())
    first = None if chosen.since is None else chosen.since.date()
    if chosen.until is not None and chosen.until.date() == date.min:
        raise click.UsageError("With --view, --until is a day after the year 1 began.", click.get_current_context())
    last = None if chosen.until is None else chosen.until.date() - _DAY
    analytics = Analytics(ledger)
    if view in SESSION_VIEWS:
        return analytics.view(view, first, last, user_id=chosen.user_id)
    found: Answer = getattr(analytics, view)(first, last)
    return found


def _query(chosen: _Chosen) -> Any:
    from ledger.model.queries import SessionQuery

    return SessionQuery(chosen.user_id, created_from=chosen.since, created_until=chosen.until)


def _listed(ledger: SessionLedger, chosen: _Chosen, status: str | None, attributes: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ids of the sessions that meet the criteria. Deleted sessions are left out, as in lists."""
    sessions = ledger.iter_sessions(
        chosen.user_id,
        status=status,
        attributes=attributes,
        created_from=chosen.since,
        created_until=chosen.until,
    )
    return (session.session_id for session in sessions)


def _scores(pairs: Iterable[str]) -> dict[str, float]:
    """Return the least values of scores by name."""
    scores: dict[str, float] = {}
    for name, value in parse_pairs(pairs, "--min-score").items():
        try:
            scores[name] = float(value)
            if math.isnan(scores[name]):
                raise ValueError("not a number")
        except (TypeError, ValueError) as error:
            raise click.BadParameter(
                f"{name} must be at least a number, not {value!r:.70}.", param_hint="--min-score"
            ) from error
    return scores


def _write(lines: Iterable[bytes], output: Path | None, what: str) -> int:
    """Write lines, show the progress, and return how many they were. On a terminal, control characters are escaped."""
    escaped = output is None and to_terminal()
    count = 0
    with _target(output) as file, progress(what) as advance:
        for line in lines:
            file.write(safe(line.decode()).encode() if escaped else line)
            count += 1
            advance(1)
        file.flush()
    return count


def _target(output: Path | None) -> AbstractContextManager[IO[bytes]]:
    """Return a context manager that yields the output file, or stdout if ``output`` is None. Stdout stays open.

    Raises:
        UsageError: Stdout was closed when the process was started.
    """
    if output is None and sys.__stdout__ is None:
        raise click.UsageError("Stdout is closed: name a file with --output FILE.", click.get_current_context())
    return nullcontext(sys.stdout.buffer) if output is None else whole_file(output, private=True)
