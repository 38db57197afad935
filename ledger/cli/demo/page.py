"""Text output of the demo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ledger.cli.demo.queries import AT_VERSION, CALLS, Check
from ledger.cli.output.render import STYLES, difference_lines, timeline, when
from ledger.cli.output.tables import cut, emit, facts, indented, rows_table, rule, table_of
from ledger.cli.output.text import one_line, plain
from ledger.sdk.queries import own_warehouse

if TYPE_CHECKING:
    from ledger.model.events import RecordedEvent
    from ledger.model.fold import Difference
    from ledger.model.session import Session
    from ledger.sdk.ledger import SessionLedger
    from ledger.warehouse.answer import Answer


def show(
    ledger: SessionLedger,
    states: Sequence[Session],
    events: Sequence[RecordedEvent],
    differences: Sequence[Difference],
    answers: tuple[Answer, Answer] | str,
    checks: Sequence[Check],
) -> None:
    """Print the demo, one section per feature.

    Args:
        ledger: The ledger of the session.
        states: The states of the session, one per version.
        events: The events of the session.
        differences: Differences between version 5 and the latest version.
        answers: Answers to the two SQL queries, or a text that says why there are no answers.
        checks: Results of comparing the SDK with SQL.
    """
    latest = states[-1]
    own = own_warehouse(ledger)
    if own is None:
        where, next_command = " on this machine", 'ledger new "QUESTION"'
    else:
        where = ", from its emulator" if own.clients.emulator else ", from BigQuery"
        next_command = "ledger --url bigquery://PROJECT/DATASET init"
    emit(
        Text.assemble(("session ledger", "bold"), "  an agent answers one question; every step is recorded"),
        *_heading("1", "the latest state", "ledger.get_session(id)"),
        indented(_latest(latest)),
        *_heading("2", "the history", "ledger.history(id)"),
        indented(timeline(events)),
        *_heading("3", "the state at every version", "ledger.get_session(id, version=n)"),
        indented(_versions_table(states)),
        *_heading("4", f"what changed from version 5 to {latest.version}", f"ledger.diff(id, 5, {latest.version})"),
        *(indented(difference_lines(difference, brief=True)) for difference in differences),
        *_heading("5", f"the same in BigQuery's SQL{where}", "ledger sql"),
        *_queries(answers),
        *(_verdict(check) for check in checks),
        Text(),
        cut(plain(f"The ledger was {ledger.url}", "dim")),
        plain(f"Create your own with: {next_command}", "dim"),
    )


_STATEMENTS = (AT_VERSION, CALLS)


def _heading(number: str, title: str, call: str) -> tuple[RenderableType, ...]:
    return Text(), rule(f"{number}  {title}", call)


def _latest(session: Session) -> Table:
    plan = (session.response_plan or {}).get("insights", [{}])[0].get("description", "")
    headline = [line for line in str(session.summary).splitlines() if line.startswith("- ")]
    return facts(
        ("session", session.session_id),
        ("status", Text(session.status or "", STYLES.get(session.status or "", ""))),
        ("version", f"{session.version}, {when(session.updated_at)}"),
        ("question", session.question),
        ("constraints", one_line(", ".join(session.constraints or {}), 100)),
        ("strategy", str(session.strategy).splitlines()[0] + " …"),
        ("plan", plan),
        ("tools", _calls(session)),
        ("summary", "\n".join(headline)),
    )


def _calls(session: Session) -> str:
    return ", ".join(f"{call.name}: {call.status}" for call in session.calls)


def _versions_table(states: Sequence[Session]) -> Table:
    """Return a table with a row per version, which shows the fields that have a value at that version."""
    table = table_of(">v", "constraints", "strategy", "plan", "summary", "status", "tool")
    for state in states:
        marks = (state.constraints, state.strategy, state.response_plan, state.summary)
        tool = state.tool_call_status[0] if state.calls else "-"
        table.add_row(
            str(state.version),
            *(Text("✓", "green") if mark is not None else Text("·", "dim") for mark in marks),
            Text(state.status or "", STYLES.get(state.status or "", "")),
            Text(tool, STYLES.get(tool, "dim")),
        )
    return table


def _queries(answers: tuple[Answer, Answer] | str) -> tuple[RenderableType, ...]:
    if isinstance(answers, str):
        return (indented(plain(answers, "yellow")),)
    return tuple(part for sql, answer in zip(_STATEMENTS, answers, strict=True) for part in _query(sql, answer))


def _query(sql: str, answer: Answer) -> tuple[RenderableType, ...]:
    return indented(plain(sql.strip(), "cyan")), indented(rows_table(answer.columns, answer.rows)), Text()


def _verdict(check: Check) -> Text:
    mark, style, word = ("✓", "green", "same") if check.same else ("✗", "bold red", "DIFFERENT")
    return Text.assemble((f"{mark} {word}", style), f"  {check.what}: SDK and SQL")
