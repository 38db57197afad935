"""Commands that share a session with another user."""

from __future__ import annotations

from typing import Any

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.write import with_envelope
from ledger.cli.output.shapes import print_appended
from ledger.cli.session_ids import session_argument
from ledger.model.fields import ACCESS, AccessLevel

COMMANDS: dict[str, click.Command] = {}


@command(
    "grant",
    "ledger grant SESSION_ID user456 read",
    "ledger grant SESSION_ID user456 write --actor admin",
    into=COMMANDS,
)
@session_argument
@click.argument("user_id", metavar="USER")
@click.argument("access", metavar="ACCESS", type=click.Choice(ACCESS))
@with_envelope
def grant(as_json: bool, url: str | None, session_id: str, user_id: str, access: AccessLevel, **envelope: Any) -> None:
    """Grant another user access to a session.

    ACCESS is read or write; write also allows appends. The user finds the session in SessionLedger.for_user(USER). A
    later grant replaces an earlier one.
    """
    with opened(url) as ledger:
        print_appended(ledger.grant_access(session_id, user_id, access, **envelope), as_json)


@command(
    "revoke",
    "ledger revoke SESSION_ID user456",
    into=COMMANDS,
)
@session_argument
@click.argument("user_id", metavar="USER")
@with_envelope
def revoke(as_json: bool, url: str | None, session_id: str, user_id: str, **envelope: Any) -> None:
    """Revoke a user's access to a session."""
    with opened(url) as ledger:
        print_appended(ledger.revoke_access(session_id, user_id, **envelope), as_json)
