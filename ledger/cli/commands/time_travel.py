"""Commands that fork, rewind, replay and compare sessions, and follow events."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.write import with_envelope, with_ttl
from ledger.cli.number_range import NumberRange
from ledger.cli.output.shapes import (
    json_text,
    print_appended,
    print_json,
)
from ledger.cli.output.text import one_line, plain, safe
from ledger.cli.session_ids import SESSION, session_argument
from ledger.model.events import RecordedEvent
from ledger.model.fold import Difference
from ledger.model.session import Session

COMMANDS: dict[str, click.Command] = {}
#: Maximum number of characters that a line of ``ledger tail`` spends on the names of the changed fields.
_FIELDS_WIDTH = 100


@command(
    "fork",
    "ledger fork SESSION_ID",
    "ledger fork SESSION_ID --version 3 --user user456",
    "ledger fork TEMPLATE_ID --template --question 'And last week?'",
    into=COMMANDS,
)
@session_argument
@click.option("--version", type=click.IntRange(min=1), help="Fork the session at this version.  [default: the latest]")
@click.option("--user", help="Owner of the new session.  [default: the session's owner]")
@click.option("--id", "new_session_id", help="Id of the new session.  [default: a generated id]")
@click.option(
    "--template",
    is_flag=True,
    help="Copy only constraints, response plan, strategy and context; planned tool calls become pending.",
)
@click.option("--question", help="With --template: question of the new session.")
@with_ttl
@with_envelope
def fork(
    as_json: bool,
    url: str | None,
    session_id: str,
    version: int | None,
    user: str | None,
    new_session_id: str | None,
    template: bool,
    question: str | None,
    ttl_hours: timedelta | None,
    **envelope: Any,
) -> None:
    """Create a session with the state of another session, including the messages, and print the new session's id.

    The other session records the new one as its child. To complete an interrupted fork, repeat the command with the
    same --event-id.
    """
    if question is not None and not template:
        raise click.UsageError("--question requires --template.", click.get_current_context())
    with opened(url) as ledger:
        if template:
            fork_id = ledger.create_from_template(
                session_id,
                _owner(ledger.get_session(session_id)) if user is None else user,
                question,
                at_version=version,
                new_session_id=new_session_id,
                ttl=ttl_hours,
                **envelope,
            )
        else:
            fork_id = ledger.fork_session(
                session_id,
                at_version=version,
                user_id=user,
                new_session_id=new_session_id,
                ttl=ttl_hours,
                **envelope,
            )
    if as_json:
        print_json({"session_id": fork_id, "source": session_id})
    else:
        click.echo(safe(fork_id))


def _owner(session: Session | None) -> str:
    """Return the owner of a session, or ``unknown`` if the session does not exist.

    ``unknown`` is never recorded, because ``create_from_template`` raises an error if the session does not exist.
    """
    return "unknown" if session is None else session.user_id


@command(
    "rewind",
    "ledger rewind SESSION_ID 3",
    "ledger rewind SESSION_ID 3 --expected-version 7",
    into=COMMANDS,
)
@session_argument
@click.argument("version", type=click.IntRange(min=1))
@with_envelope
def rewind(as_json: bool, url: str | None, session_id: str, version: int, **envelope: Any) -> None:
    """Rewind a session: append events that restore its state at VERSION.

    The history is kept. With --json, version and event_id are null if the session already has that state.
    """
    with opened(url) as ledger:
        appended = ledger.rewind(session_id, version, **envelope)
    if appended is not None:
        print_appended(appended, as_json)
    elif as_json:
        print_json({"session_id": session_id, "version": None, "event_id": None, "replayed": False})
    else:
        click.echo(f"{safe(session_id)} already has the state of version {version}; nothing was written.")


@command(
    "replay",
    "ledger replay SESSION_ID",
    "ledger replay SESSION_ID --from 3 --to 7 --json",
    into=COMMANDS,
)
@session_argument
@click.option("--from", "from_version", type=click.IntRange(min=1), default=1, show_default=True, help="First version.")
@click.option("--to", "to_version", type=click.IntRange(min=1), help="Last version.  [default: the latest]")
@click.option("--messages", is_flag=True, help="With --json: include the messages in each state.")
def replay(
    as_json: bool, url: str | None, session_id: str, from_version: int, to_version: int | None, messages: bool
) -> None:
    """Replay a session event by event, with the values before and after each change.

    With --json, each line is a JSON object with an event and the state of the session after that event.
    """
    with opened(url) as ledger:
        before = ledger.get_session(session_id, version=from_version - 1, messages=True) if from_version > 1 else None
        states = ledger.replay(
            session_id, from_version=from_version, to_version=to_version, messages=messages or not as_json
        )
        for event, session in states:
            if as_json:
                step = {"event": event.to_dict(), "session": session.to_dict()}
                click.echo(json_text(step, indent=False))
            else:
                _show_step(event, before, session)
                before = session


def _show_step(event: RecordedEvent, before: Session | None, session: Session) -> None:
    from ledger.cli.output.render import difference_lines, when
    from ledger.cli.output.tables import emit, indented

    registers = sorted((change.field, change.key) for change in event.changes)
    earlier = {} if before is None else before._state
    differences = [Difference(*register, earlier.get(register), session._state.get(register)) for register in registers]
    by = f" by {event.actor}" if event.actor else ""
    key = f"  idempotency key {event.idempotency_key}" if event.idempotency_key else ""
    head = plain(f"{event.version}  {event.event_type}{by}  {when(event.recorded_at)}{key}", "bold")
    emit(head, *(indented(difference_lines(difference, brief=True)) for difference in differences))


@command(
    "compare",
    "ledger compare SESSION_ID FORK_ID",
    "ledger compare SESSION_ID OTHER_ID --version 3 --other-version 5 --json",
    into=COMMANDS,
)
@session_argument
@click.argument("other_session_id", type=SESSION)
@click.option("--version", type=click.IntRange(min=1), help="Version of the first session.  [default: the latest]")
@click.option(
    "--other-version", type=click.IntRange(min=1), help="Version of the other session.  [default: the latest]"
)
def compare(
    as_json: bool,
    url: str | None,
    session_id: str,
    other_session_id: str,
    version: int | None,
    other_version: int | None,
) -> None:
    """Show the differences between two sessions.

    Values of the first session are marked -, and values of the other session +.
    """
    with opened(url) as ledger:
        differences = ledger.compare(session_id, other_session_id, version=version, other_version=other_version)
    if as_json:
        print_json(
            {
                "session_id": session_id,
                "other_session_id": other_session_id,
                "version": version,
                "other_version": other_version,
                "differences": [difference.to_dict() for difference in differences],
            }
        )
    else:
        from ledger.cli.output.render import show_diff

        show_diff(differences)


@command(
    "tail",
    "ledger tail",
    "ledger tail --follow --type message --type tool_call",
    "ledger tail --after 1234 --json",
    into=COMMANDS,
)
@click.option("-f", "--follow", is_flag=True, help="Show new events of any process as they are recorded, until Ctrl-C.")
@click.option(
    "--after", type=click.IntRange(min=0), metavar="SEQ", help="Start after this sequence number; 0 shows all events."
)
@click.option("--last", type=click.IntRange(1, 10_000), help="Start with this many newest events.  [default: 10]")
@click.option("--session", "session_id", type=SESSION, metavar="SESSION_ID", help="Show only events of this session.")
@click.option("--user", "user_id", help="Show only events of this user's sessions.")
@click.option(
    "--type",
    "event_types",
    multiple=True,
    metavar="PREFIX",
    help="Show only event types that start with this. May be repeated.",
)
@click.option("--timeout", type=NumberRange(min=0), help="With --follow: exit after this many seconds without events.")
def tail(
    as_json: bool,
    url: str | None,
    follow: bool,
    after: int | None,
    last: int | None,
    session_id: str | None,
    user_id: str | None,
    event_types: tuple[str, ...],
    timeout: float | None,
) -> None:
    """Show the newest events of all sessions in commit order.

    Each line starts with the sequence number of the event; pass it to --after to continue. With --json, each line is a
    JSON object.
    """
    if timeout is not None and not follow:
        raise click.UsageError("--timeout requires --follow.", click.get_current_context())
    if after is not None and last is not None:
        raise click.UsageError("Pass --after or --last, not both.", click.get_current_context())
    with opened(url) as ledger:
        subscription = ledger.subscribe(
            after,
            last=10 if after is None and last is None else last,
            session_id=session_id,
            user_id=user_id,
            event_types=event_types,
            timeout=timeout if follow else 0,
        )
        for seq, event in subscription:
            if as_json:
                envelope = {"seq": seq, "session_id": event.session_id, "user_id": event.user_id}
                click.echo(json_text({**envelope, **event.to_dict()}, indent=False))
            else:
                click.echo(_line(seq, event))


def _line(seq: int, event: RecordedEvent) -> str:
    fields = " ".join(f"{each.field}[{each.key}]" if each.key else each.field for each in event.changes)
    by = f" by {one_line(event.actor, 40)}" if event.actor else ""
    session = f"{safe(event.session_id)} {event.version}"
    return f"{seq:>8}  {_time(event.recorded_at)}  {session}  {event.event_type}{by}  {one_line(fields, _FIELDS_WIDTH)}"


def _time(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
