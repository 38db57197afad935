"""The command that searches the text of sessions."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.read import point_in_time
from ledger.cli.output.shapes import print_json
from ledger.cli.session_ids import SESSION
from ledger.model.fields import ROLES, Role

COMMANDS: dict[str, click.Command] = {}


@command(
    "search",
    "ledger search 'orders bavaria'",
    "ledger search bavaria --role user",
    "ledger search '\"week of February\"' --user user123 --limit 5 --json",
    into=COMMANDS,
)
@click.argument("text")
@click.option("--user", "user_id", help="Search only sessions of this user.")
@click.option("--session", "session_id", type=SESSION, metavar="SESSION_ID", help="Search only this session.")
@click.option(
    "--role",
    metavar="ROLE",
    type=click.Choice(ROLES),
    help="Search only messages of this role: system, developer, user, assistant, tool or function.",
)
@click.option(
    "--since",
    "created_from",
    type=point_in_time,
    metavar="TIME",
    help="Search only sessions created at or after this time or day.",
)
@click.option(
    "--until",
    "created_until",
    type=point_in_time,
    metavar="TIME",
    help="Search only sessions created before this time or day.",
)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Maximum number of matches."
)
@click.option("--after", metavar="CURSOR", help="Continue after the cursor printed with the previous page.")
def search(
    as_json: bool,
    url: str | None,
    text: str,
    user_id: str | None,
    session_id: str | None,
    role: Role | None,
    created_from: datetime | None,
    created_until: datetime | None,
    limit: int,
    after: str | None,
) -> None:
    """Find current messages, questions, titles and summaries that contain every word of TEXT.

    A word matches only the same whole word, in upper or lower case, whether its accents are part of its letters or
    separate characters. Words in double quotes must be adjacent. The newest sessions come first.
    """
    with opened(url) as ledger:
        page = ledger.search(
            text,
            user_id=user_id,
            session_id=session_id,
            role=role,
            created_from=created_from,
            created_until=created_until,
            after=after,
            limit=limit,
        )
    if as_json:
        print_json({"matches": [asdict(match) for match in page], "next": page.next})
    else:
        from ledger.cli.output.render import list_matches

        list_matches(page)
