"""Commands about how sessions end and come back, and how they are judged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.write import envelope_of, with_envelope, with_ttl
from ledger.cli.output.shapes import print_appended, print_json
from ledger.cli.output.text import safe
from ledger.cli.values import parse_json
from ledger.errors import InvalidInput
from ledger.model.events import AppendResult

COMMANDS: dict[str, click.Command] = {}

_session = click.argument("session_id")


def _judgement(text: str) -> Any:
    """A score's value as typed: JSON where it is any, else the text."""
    try:
        return parse_json(text, "VALUE")
    except InvalidInput:
        return text


def _print_changed(appended: AppendResult | None, session_id: str, already: str, as_json: bool) -> None:
    if appended is not None:
        print_appended(appended, as_json)
    elif as_json:
        print_json({"session_id": session_id, "version": None, "event_id": None, "replayed": True})
    else:
        click.echo(f"Session {safe(session_id)} is {already} already.")


def _ending(name: str, method: str, already: str, words: str) -> Callable[..., None]:
    """A command that takes a session and nothing else."""

    def run(as_json: bool, url: str | None, session_id: str, **envelope: Any) -> None:
        with opened(url) as ledger:
            appended = getattr(ledger, method)(session_id, **envelope_of(**envelope))
        _print_changed(appended, session_id, already, as_json)

    run.__doc__ = words
    return command(name, f"ledger {name} SESSION_ID", into=COMMANDS)(_session(with_envelope(run)))


_ending("complete", "complete_session", "completed", "Record that a session came to its end as it should.")
_ending("expire", "expire_session", "expired", "End a session now, before its time has come.")
_ending(
    "delete",
    "delete_session",
    "deleted",
    "Take a session out of every list. Its history stays, and `ledger restore` brings it back.",
)


@command("fail", 'ledger fail SESSION_ID "The warehouse did not answer." --type Timeout', into=COMMANDS)
@_session
@click.argument("message")
@click.option("--type", "kind", default="error", show_default=True, help="What kind of error it was.")
@with_envelope
def fail(as_json: bool, url: str | None, session_id: str, message: str, kind: str, **envelope: Any) -> None:
    """Record that a session broke off, and why. One that is merely left alone expires instead."""
    with opened(url) as ledger:
        error = {"type": kind, "message": message}
        print_appended(ledger.fail_session(session_id, error, **envelope_of(**envelope)), as_json)


@command("extend", "ledger extend SESSION_ID --ttl-hours 48", into=COMMANDS)
@_session
@with_ttl
@with_envelope
def extend(as_json: bool, url: str | None, session_id: str, ttl_hours: timedelta | None, **envelope: Any) -> None:
    """Have a session end later: so many hours from now."""
    with opened(url) as ledger:
        print_appended(ledger.extend_session(session_id, ttl_hours, **envelope_of(**envelope)), as_json)


@command("restore", "ledger restore SESSION_ID", "ledger restore SESSION_ID --ttl-hours none", into=COMMANDS)
@_session
@with_ttl
@with_envelope
def restore(as_json: bool, url: str | None, session_id: str, ttl_hours: timedelta | None, **envelope: Any) -> None:
    """Open an expired or deleted session again, with the status it had before."""
    with opened(url) as ledger:
        print_appended(ledger.restore_session(session_id, ttl_hours, **envelope_of(**envelope)), as_json)


@command("tag", "ledger tag SESSION_ID weekly", "ledger tag SESSION_ID weekly --remove", into=COMMANDS)
@_session
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@click.option("--remove", is_flag=True, help="Take the tags off instead.")
@with_envelope
def tag(as_json: bool, url: str | None, session_id: str, tags: tuple[str, ...], remove: bool, **envelope: Any) -> None:
    """Tag a session, whether or not it has ended."""
    with opened(url) as ledger:
        change = ledger.remove_tags if remove else ledger.add_tags
        print_appended(change(session_id, *tags, **envelope_of(**envelope)), as_json)


@command("score", "ledger score SESSION_ID helpfulness 0.9 --source reviewer", into=COMMANDS)
@_session
@click.argument("name")
@click.argument("value")
@click.option("--source", help="Who judges.")
@click.option("--comment", help="Why.")
@with_envelope
def score(
    as_json: bool,
    url: str | None,
    session_id: str,
    name: str,
    value: str,
    source: str | None,
    comment: str | None,
    **envelope: Any,
) -> None:
    """Judge a session, whether or not it has ended. VALUE is a number, true, false, or text."""
    with opened(url) as ledger:
        appended = ledger.add_score(
            session_id, name, _judgement(value), source=source, comment=comment, **envelope_of(**envelope)
        )
    print_appended(appended, as_json)


@command("remove-message", "ledger remove-message SESSION_ID MESSAGE_ID", into=COMMANDS)
@_session
@click.argument("message_id")
@with_envelope
def remove_message(as_json: bool, url: str | None, session_id: str, message_id: str, **envelope: Any) -> None:
    """Take a message out of the conversation. The history keeps it."""
    with opened(url) as ledger:
        print_appended(ledger.remove_message(session_id, message_id, **envelope_of(**envelope)), as_json)


@command("count", "ledger count status", "ledger count topic --type problem --user user123", into=COMMANDS)
@click.argument("by")
@click.option("--user", help="Only this user's.")
@click.option("--status", help="Only those of this status.")
@click.option("--type", "session_type", help="Only those of this kind.")
def count(
    as_json: bool, url: str | None, by: str, user: str | None, status: str | None, session_type: str | None
) -> None:
    """How many sessions there are, by status, session_type, user_id, day, or the name of an attribute."""
    with opened(url) as ledger:
        found = ledger.count_sessions(by, user_id=user, status=status, session_type=session_type)
    if as_json:
        print_json([{"value": value, "sessions": number} for value, number in found.items()])
        return
    width = max((len(f"{number:,}") for number in found.values()), default=0)
    for value, number in found.items():
        click.echo(f"{number:>{width},}  {'(none)' if value is None else safe(str(value))}")
