"""Commands that read sessions."""

from __future__ import annotations

from datetime import datetime

import click

from ledger.cli.app import command, opened
from ledger.cli.output.shapes import print_json
from ledger.cli.session_ids import session_argument
from ledger.cli.values import parse_pairs
from ledger.errors import InvalidInput, SessionNotFound
from ledger.model.instants import from_text
from ledger.model.queries import ORDERS, OrderBy

COMMANDS: dict[str, click.Command] = {}


def point_in_time(text: str) -> datetime:
    """Parse a time with a UTC offset, or a day. A day is parsed as its first moment in UTC."""
    try:
        return from_text(f"{text}T00:00:00Z" if len(text) == 10 else text, "the time")
    except InvalidInput as error:
        raise click.BadParameter(f"{error} A day such as 2026-11-21 is accepted as well.") from error


@command(
    "show",
    "ledger show SESSION_ID",
    "ledger show SESSION_ID --version 3",
    "ledger show SESSION_ID --at 2026-11-21T09:00:00Z --messages",
    into=COMMANDS,
)
@session_argument
@click.option("--version", type=click.IntRange(min=1), help="Show the session at this version.  [default: the latest]")
@click.option(
    "--at",
    type=point_in_time,
    metavar="TIME",
    help="Show the session as of this time: 2026-11-21T09:00:00Z, or a day.",
)
@click.option("--messages", is_flag=True, help="Show the messages as well.")
@click.option(
    "--last", type=click.IntRange(1, 10_000), help="Show only this many newest messages, of the latest state."
)
def show(
    as_json: bool,
    url: str | None,
    session_id: str,
    version: int | None,
    at: datetime | None,
    messages: bool,
    last: int | None,
) -> None:
    """Show a session: its latest state, or the state at a version or time."""
    if last is not None and (version is not None or at is not None):
        raise click.UsageError("--last reads the latest state; omit --version and --at.", click.get_current_context())
    with opened(url) as ledger:
        session = ledger.get_session(session_id, version=version, at=at, messages=messages and last is None)
        newest = ledger.get_messages(session_id, last=last) if last is not None and session is not None else None
    if session is None:
        when = "" if at is None else f" created before {at.isoformat()}"
        raise SessionNotFound(
            f"There is no session {session_id}{when}. List the sessions with: ledger list", session_id=session_id
        )
    read = session.messages if session.has_messages else None
    shown = read if newest is None else tuple(newest)
    if as_json:
        document = session.to_dict()
        if newest is not None:
            document["messages"] = [message.to_dict() for message in newest]
        print_json(document)
    else:
        from ledger.cli.output.render import show_session

        show_session(session, shown)


@command(
    "list",
    "ledger list",
    "ledger list --user user123 --status completed --limit 5",
    "ledger list --attribute reward:=1.0 --since 2026-11-01",
    "ledger list --user user456 --shared",
    "ledger list --order-by updated",
    into=COMMANDS,
)
@click.option("--user", "user_id", help="List only sessions of this user.")
@click.option("--shared", is_flag=True, help="With --user: list the sessions that other users share with this user.")
@click.option("--status", help="List only sessions with this status.")
@click.option("--type", "session_type", help="List only sessions of this type.")
@click.option("--tag", help="List only sessions with this tag.")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="NAME=TEXT|NAME:=JSON",
    help="List only sessions with this attribute value; 1 and 1.0 are equal. May be repeated.",
)
@click.option(
    "--since",
    "created_from",
    type=point_in_time,
    metavar="TIME",
    help="List only sessions created at or after this time or day.",
)
@click.option(
    "--until",
    "created_until",
    type=point_in_time,
    metavar="TIME",
    help="List only sessions created before this time or day.",
)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Maximum number of sessions."
)
@click.option(
    "--order-by",
    type=click.Choice(ORDERS),
    default="created",
    show_default=True,
    help="List the newest sessions first, or those with the latest event.",
)
@click.option(
    "--after",
    metavar="CURSOR",
    help="Continue after the cursor printed with the previous page, in the same order.",
)
def list_(
    as_json: bool,
    url: str | None,
    user_id: str | None,
    status: str | None,
    session_type: str | None,
    tag: str | None,
    attributes: tuple[str, ...],
    created_from: datetime | None,
    created_until: datetime | None,
    limit: int,
    after: str | None,
    shared: bool,
    order_by: OrderBy,
) -> None:
    """List sessions that meet all criteria, newest first."""
    with opened(url) as ledger:
        page = ledger.list_sessions(
            user_id,
            status=status,
            session_type=session_type,
            tag=tag,
            attributes=parse_pairs(attributes, "--attribute"),
            created_from=created_from,
            created_until=created_until,
            shared=shared,
            order_by=order_by,
            after=after,
            limit=limit,
        )
    if as_json:
        print_json({"sessions": [session.to_dict() for session in page], "next": page.next})
    else:
        from ledger.cli.output.render import list_sessions

        list_sessions(page, order_by)


@command(
    "history",
    "ledger history SESSION_ID",
    "ledger history SESSION_ID --after 100 --limit 20 --json",
    into=COMMANDS,
)
@session_argument
@click.option("--after", type=click.IntRange(min=0), default=0, help="Show only events after this version.")
@click.option("--limit", type=click.IntRange(1, 10_000), help="Maximum number of events.  [default: all]")
def history(as_json: bool, url: str | None, session_id: str, after: int, limit: int | None) -> None:
    """Show the events of a session in order, with their changes."""
    with opened(url) as ledger:
        page = ledger.history(session_id, after=after, limit=limit)
    if as_json:
        print_json({"session_id": session_id, "events": [event.to_dict() for event in page], "next": page.next})
    else:
        from ledger.cli.output.render import show_history

        show_history(page)


@command(
    "diff",
    "ledger diff SESSION_ID 3",
    "ledger diff SESSION_ID 3 7 --json",
    into=COMMANDS,
)
@session_argument
@click.argument("before", type=click.IntRange(min=0))
@click.argument("after", type=click.IntRange(min=1), required=False)
def diff(as_json: bool, url: str | None, session_id: str, before: int, after: int | None) -> None:
    """Show the differences between two versions of a session.

    BEFORE may be 0, which means the session before its first event. AFTER is the latest version by default.
    """
    with opened(url) as ledger:
        differences = ledger.diff(session_id, before, after)
    if as_json:
        print_json(
            {
                "session_id": session_id,
                "before": before,
                "after": after,
                "differences": [difference.to_dict() for difference in differences],
            }
        )
    else:
        from ledger.cli.output.render import show_diff

        show_diff(differences)
