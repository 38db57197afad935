"""Commands that go back and forth in time: forks, rewinding, replay, comparison, and events as they come."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.write import envelope_of, with_envelope, with_ttl
from ledger.cli.number_range import NumberRange
from ledger.cli.output.shapes import (
    difference_object,
    event_object,
    json_text,
    print_appended,
    print_json,
    session_object,
)
from ledger.cli.output.text import one_line, plain, safe
from ledger.model.events import RecordedEvent
from ledger.model.fold import Difference
from ledger.model.session import Session

COMMANDS: dict[str, click.Command] = {}
#: Characters of what an event wrote that a line shows.
_WRITTEN = 100


@command(
    "fork",
    "ledger fork SESSION_ID",
    "ledger fork SESSION_ID --version 3 --user user456",
    "ledger fork TEMPLATE_ID --template --question 'And last week?'",
    into=COMMANDS,
)
@click.argument("session_id")
@click.option("--version", type=click.IntRange(min=1), help="As it was after this many events.  [default: now]")
@click.option("--user", help="The new session's owner.  [default: that of the session]")
@click.option("--id", "new_session_id", help="Your own id for the new session; one is made where it is left out.")
@click.option(
    "--template", is_flag=True, help="Take over only constraints, response plan, strategy and context; plan calls anew."
)
@click.option("--question", help="With --template: what the new session was asked.")
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
    """Begin a session with the state of another one, messages included; prints its id.

    The other session notes the fork as its child, and stays as it is otherwise. Where a fork was broken off, the same
    command with --event-id finishes it.
    """
    if question is not None and not template:
        raise click.UsageError("--question goes with --template.", click.get_current_context())
    with opened(url) as ledger:
        about = envelope_of(**envelope)
        if template:
            made = ledger.create_from_template(
                session_id,
                _owner(ledger.get_session(session_id)) if user is None else user,
                question,
                at_version=version,
                new_session_id=new_session_id,
                ttl=ttl_hours,
                **about,
            )
        else:
            made = ledger.fork_session(
                session_id, at_version=version, user_id=user, new_session_id=new_session_id, ttl=ttl_hours, **about
            )
    if as_json:
        print_json({"session_id": made, "source": session_id})
    else:
        click.echo(safe(made))


def _owner(session: Session | None) -> str:
    return "nobody" if session is None else session.user_id  # where it is not there, the SDK says so


@command(
    "rewind",
    "ledger rewind SESSION_ID 3",
    "ledger rewind SESSION_ID 3 --expected-version 7",
    into=COMMANDS,
)
@click.argument("session_id")
@click.argument("version", type=click.IntRange(min=1))
@with_envelope
def rewind(as_json: bool, url: str | None, session_id: str, version: int, **envelope: Any) -> None:
    """Bring a session back to the state that it had at VERSION, by an event that takes back what came after.

    The history stays. With --json, version and event_id are null where the session is as it was already.
    """
    with opened(url) as ledger:
        done = ledger.rewind(session_id, version, **envelope_of(**envelope))
    if done is not None:
        print_appended(done, as_json)
    elif as_json:
        print_json({"session_id": session_id, "version": None, "event_id": None, "replayed": False})
    else:
        click.echo(f"{safe(session_id)} is as it was at version {version} already; nothing was written.")


@command(
    "replay",
    "ledger replay SESSION_ID",
    "ledger replay SESSION_ID --from 3 --to 7 --json",
    into=COMMANDS,
)
@click.argument("session_id")
@click.option("--from", "from_version", type=click.IntRange(min=1), default=1, show_default=True, help="First version.")
@click.option("--to", "to_version", type=click.IntRange(min=1), help="Last version.  [default: the latest]")
@click.option("--messages", is_flag=True, help="With --json: the states hold the messages.")
def replay(
    as_json: bool, url: str | None, session_id: str, from_version: int, to_version: int | None, messages: bool
) -> None:
    """Go through a session event by event: what each one changed, from what to what.

    With --json a line for each event, with the session as it was after it.
    """
    with opened(url) as ledger:
        before = ledger.get_session(session_id, version=from_version - 1, messages=True) if from_version > 1 else None
        states = ledger.replay(
            session_id, from_version=from_version, to_version=to_version, messages=messages or not as_json
        )
        for event, session in states:
            if as_json:
                found = {"event": event_object(event), "session": session_object(session)}
                click.echo(json_text(found, indent=False))
            else:
                _show_step(event, before, session)
                before = session


def _show_step(event: RecordedEvent, before: Session | None, session: Session) -> None:
    from ledger.cli.output.render import difference_lines, emit, indented, when

    slots = sorted((change.field, change.key) for change in event.changes)
    was = {} if before is None else before._state
    differences = [Difference(*slot, was.get(slot), session._state.get(slot)) for slot in slots]
    by = f" by {event.actor}" if event.actor else ""
    head = plain(f"{event.version}  {event.event_type}{by}  {when(event.recorded_at)}", "bold")
    emit(head, *(indented(difference_lines(it, brief=True)) for it in differences))


@command(
    "compare",
    "ledger compare SESSION_ID FORK_ID",
    "ledger compare SESSION_ID OTHER_ID --version 3 --other-version 5 --json",
    into=COMMANDS,
)
@click.argument("session_id")
@click.argument("other_session_id")
@click.option("--version", type=click.IntRange(min=1), help="The first one as it was after this many events.")
@click.option("--other-version", type=click.IntRange(min=1), help="The same of the other one.")
def compare(
    as_json: bool,
    url: str | None,
    session_id: str,
    other_session_id: str,
    version: int | None,
    other_version: int | None,
) -> None:
    """Show what differs between two sessions: - is the first one, + the other."""
    with opened(url) as ledger:
        differences = ledger.compare(session_id, other_session_id, version=version, other_version=other_version)
    if as_json:
        print_json(
            {
                "session_id": session_id,
                "other_session_id": other_session_id,
                "version": version,
                "other_version": other_version,
                "differences": [difference_object(difference) for difference in differences],
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
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, by whatever process, until Ctrl-C.")
@click.option("--after", type=click.IntRange(min=0), metavar="SEQ", help="Only what came after this; 0 for everything.")
@click.option("--last", type=click.IntRange(1, 10_000), help="Begin with the newest this many.  [default: 10]")
@click.option("--session", "session_id", help="Of this session.")
@click.option("--user", "user_id", help="Of this user's sessions.")
@click.option("--type", "event_types", multiple=True, metavar="PREFIX", help="Types that begin so; may be repeated.")
@click.option("--timeout", type=NumberRange(min=0), help="With --follow: end when so many seconds bring nothing.")
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
    """Show the newest events of all sessions, in the order in which they were committed.

    Each line begins with the place of its event: --after goes on there. With --json a line is an object.
    """
    if timeout is not None and not follow:
        raise click.UsageError("--timeout goes with --follow.", click.get_current_context())
    if after is not None and last is not None:
        raise click.UsageError("Give --after or --last, not both.", click.get_current_context())
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
                where = {"seq": seq, "session_id": event.session_id, "user_id": event.user_id}
                click.echo(json_text({**where, **event_object(event)}, indent=False))
            else:
                click.echo(_line(seq, event))


def _line(seq: int, event: RecordedEvent) -> str:
    slots = " ".join(f"{it.field}[{it.key}]" if it.key else it.field for it in event.changes)
    by = f" by {one_line(event.actor, 40)}" if event.actor else ""
    where = f"{safe(event.session_id)} {event.version}"
    return f"{seq:>8}  {_moment(event.recorded_at)}  {where}  {event.event_type}{by}  {one_line(slots, _WRITTEN)}"


def _moment(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
