"""Commands that end, restore, tag, score and count sessions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.write import with_envelope, with_ttl
from ledger.cli.output.shapes import print_appended, print_json
from ledger.cli.output.text import safe
from ledger.cli.session_ids import session_argument
from ledger.cli.values import parse_json
from ledger.errors import InvalidInput
from ledger.model.events import AppendResult

COMMANDS: dict[str, click.Command] = {}


def _score_value(text: str) -> Any:
    """Return the value of a score: the parsed JSON if the text is valid JSON, or else the text itself."""
    try:
        return parse_json(text, "VALUE")
    except InvalidInput:
        return text


def _print_changed(appended: AppendResult | None, session_id: str, status: str, as_json: bool) -> None:
    if appended is not None:
        print_appended(appended, as_json)
    elif as_json:
        print_json({"session_id": session_id, "version": None, "event_id": None, "replayed": True})
    else:
        click.echo(f"Session {safe(session_id)} is already {status}.")


def _ending(name: str, method: str, status: str, doc: str) -> Callable[..., None]:
    """Add to ``COMMANDS`` a command that ends a session. Its only argument is the session's id.

    Args:
        name: Name of the command.
        method: Name of the method of ``SessionLedger`` that ends the session.
        status: The session's status after the command, for messages.
        doc: Help text of the command.
    """

    def run(as_json: bool, url: str | None, session_id: str, **envelope: Any) -> None:
        with opened(url) as ledger:
            appended = getattr(ledger, method)(session_id, **envelope)
        _print_changed(appended, session_id, status, as_json)

    run.__doc__ = doc
    return command(name, f"ledger {name} SESSION_ID", into=COMMANDS)(session_argument(with_envelope(run)))


_ending("complete", "complete_session", "completed", "Mark a session as completed.")
_ending("expire", "expire_session", "expired", "Expire a session now, before its TTL ends.")
_ending(
    "delete",
    "delete_session",
    "deleted",
    "Delete a session, which hides it from lists. Its history is kept, and `ledger restore` undoes this.",
)


@command("fail", 'ledger fail SESSION_ID "The warehouse did not answer." --type Timeout', into=COMMANDS)
@session_argument
@click.argument("message")
@click.option("--type", "kind", default="error", show_default=True, help="Type of the error.")
@with_envelope
def fail(as_json: bool, url: str | None, session_id: str, message: str, kind: str, **envelope: Any) -> None:
    """Mark a session as failed, with an error message.

    An abandoned session does not need this command. It expires when its TTL ends.
    """
    with opened(url) as ledger:
        error = {"type": kind, "message": message}
        print_appended(ledger.fail_session(session_id, error, **envelope), as_json)


@command("extend", "ledger extend SESSION_ID --ttl-hours 48", into=COMMANDS)
@session_argument
@with_ttl
@with_envelope
def extend(as_json: bool, url: str | None, session_id: str, ttl_hours: timedelta | None, **envelope: Any) -> None:
    """Extend a session: set its TTL, counted from now."""
    with opened(url) as ledger:
        print_appended(ledger.extend_session(session_id, ttl_hours, **envelope), as_json)


@command("restore", "ledger restore SESSION_ID", "ledger restore SESSION_ID --ttl-hours none", into=COMMANDS)
@session_argument
@with_ttl
@with_envelope
def restore(as_json: bool, url: str | None, session_id: str, ttl_hours: timedelta | None, **envelope: Any) -> None:
    """Restore an expired or deleted session to its previous status."""
    with opened(url) as ledger:
        print_appended(ledger.restore_session(session_id, ttl_hours, **envelope), as_json)


@command("tag", "ledger tag SESSION_ID weekly", "ledger tag SESSION_ID weekly --remove", into=COMMANDS)
@session_argument
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@click.option("--remove", is_flag=True, help="Remove the tags.")
@with_envelope
def tag(as_json: bool, url: str | None, session_id: str, tags: tuple[str, ...], remove: bool, **envelope: Any) -> None:
    """Add tags to a session, or remove them. This is possible for an ended session too."""
    with opened(url) as ledger:
        change = ledger.remove_tags if remove else ledger.add_tags
        print_appended(change(session_id, *tags, **envelope), as_json)


@command("score", "ledger score SESSION_ID helpfulness 0.9 --source reviewer", into=COMMANDS)
@session_argument
@click.argument("name")
@click.argument("value")
@click.option("--source", help="Source of the score, such as a reviewer.")
@click.option("--comment", help="Reason for the score.")
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
    """Add a score to a session. This is possible for an ended session too.

    VALUE is a number, true, false or text.
    """
    with opened(url) as ledger:
        appended = ledger.add_score(session_id, name, _score_value(value), source=source, comment=comment, **envelope)
    print_appended(appended, as_json)


@command("remove-message", "ledger remove-message SESSION_ID MESSAGE_ID", into=COMMANDS)
@session_argument
@click.argument("message_id")
@with_envelope
def remove_message(as_json: bool, url: str | None, session_id: str, message_id: str, **envelope: Any) -> None:
    """Remove a message from a session. A title that was taken from it goes too; the history keeps both."""
    with opened(url) as ledger:
        print_appended(ledger.remove_message(session_id, message_id, **envelope), as_json)


@command("count", "ledger count status", "ledger count topic --type problem --user user123", into=COMMANDS)
@click.argument("by")
@click.option("--user", help="Count only sessions of this user.")
@click.option("--status", help="Count only sessions with this status.")
@click.option("--type", "session_type", help="Count only sessions of this type.")
def count(
    as_json: bool, url: str | None, by: str, user: str | None, status: str | None, session_type: str | None
) -> None:
    """Count sessions, grouped by status, session_type, user_id, day or an attribute."""
    with opened(url) as ledger:
        counts = ledger.count_sessions(by, user_id=user, status=status, session_type=session_type)
    if as_json:
        print_json([{"value": value, "sessions": number} for value, number in counts.items()])
        return
    width = max((len(f"{number:,}") for number in counts.values()), default=0)
    for value, number in counts.items():
        click.echo(f"{number:>{width},}  {'(none)' if value is None else safe(str(value))}")
