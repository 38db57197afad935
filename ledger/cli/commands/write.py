"""Commands that create and change sessions."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Unpack

import click

from ledger.cli.app import command, default_user, opened, together
from ledger.cli.number_range import NumberRange
from ledger.cli.output.shapes import print_appended, print_json
from ledger.cli.output.text import safe
from ledger.cli.session_ids import session_argument
from ledger.cli.values import decode_text, parse_json, parse_pairs, parse_value
from ledger.errors import InvalidInput
from ledger.model.events import AppendResult, Change, Envelope
from ledger.model.fields import ROLES, TOOL_STATUSES, Role, ToolStatus
from ledger.sdk.ledger import SessionLedger
from ledger.sdk.opening import UNSET

COMMANDS: dict[str, click.Command] = {}

with_envelope = together(
    click.option(
        "--expected-version", type=click.IntRange(min=0), help="Append only if the session is at this version."
    ),
    click.option("--event-id", help="Idempotency key, any text: a change sent twice is recorded once."),
    click.option("--actor", help="Author of the change.  [default: the session's user]"),
)
with_json_value = click.option("--json-value", is_flag=True, help="Parse the value as JSON instead of text.")
with_file = click.option(
    "--from",
    "source",
    type=click.File("rb"),
    help="Read the value from a file; - is stdin.",
)


def _ttl_of(ctx: click.Context, parameter: click.Parameter, text: str | None) -> timedelta | None:
    """Return --ttl-hours as a duration: ``UNSET`` if the option is not given, None if its value is ``none``."""
    if text is None:
        return UNSET  # type: ignore[no-any-return]
    if text.lower() == "none":
        return None
    try:
        return timedelta(hours=float(text))
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text!r} is neither a number of hours nor none.") from None


with_ttl = click.option(
    "--ttl-hours",
    metavar="HOURS|none",
    callback=_ttl_of,
    help="TTL in hours from now; none to never expire.  [default: LEDGER_SESSION_DEFAULT_TTL_HOURS, else none]",
)


def _text_given(value: str | None, source: Any, name: str) -> str:
    """Return a text from the command line, or from the file of --from.

    Args:
        value: The value of the argument, or None if it is not given.
        source: The open file of --from, or None if the option is not given.
        name: Name of the argument, for error messages.

    Raises:
        UsageError: Both or neither of ``value`` and ``source`` are given.
        InvalidInput: The file is not UTF-8.
    """
    if (value is None) == (source is None):
        raise click.UsageError(f"Pass either {name} or --from FILE.", click.get_current_context())
    return decode_text(source.read(), name) if value is None else value


def create_ledger(url: str | None, message: str, *, as_json: bool) -> None:
    """Create or upgrade a ledger, and print that the ledger is ready. For BigQuery, print what was created instead.

    Args:
        url: URL of the ledger.
        message: Text that follows "The ledger <its URL> is ready" in the output.
        as_json: Print JSON.
    """
    from ledger.sdk.queries import own_warehouse

    with opened(url, create=True) as ledger:
        own = own_warehouse(ledger)
        if own is not None:
            from ledger.cli.commands.dataset import create, report

            report(create(own), ledger, as_json=as_json)
            return
        created = {"url": ledger.url, "store_id": ledger.store.store_id}
    if as_json:
        print_json(created)
    else:
        click.echo(f"The ledger {safe(created['url'])} is ready{message}")


@command(
    "init",
    "ledger init",
    "ledger --url sqlite:////var/lib/agents/ledger.db init",
    "ledger --url bigquery://PROJECT/DATASET init",
    into=COMMANDS,
)
def init(as_json: bool, url: str | None) -> None:
    """Create a ledger, or upgrade an existing one to this release.

    A ledger of this release is not changed. In BigQuery, this creates a dataset with the ledger's tables, views and
    functions. To set a location, expiration, key or labels, use create_sessions_table.py.
    """
    create_ledger(url, '. Create a session with: ledger new "QUESTION"', as_json=as_json)


@command(
    "new",
    'ledger new "What were the total orders for CFC1 in the last week?" --user user123',
    'ledger new "Weekly report" --tag weekly --attribute topic=orders --attribute priority:=2',
    into=COMMANDS,
)
@click.argument("question", required=False)
@click.option("--user", help="Owner of the session; cannot be changed.  [default: LEDGER_USER, else your login name]")
@click.option("--id", "session_id", help="Id of the session.  [default: a generated id]")
@click.option("--title", help="Title of the session.")
@click.option("--type", "session_type", help="Type of the session.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Add a tag. May be repeated.")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="NAME=TEXT|NAME:=JSON",
    help="Set an attribute. May be repeated.",
)
@click.option("--expires-at", metavar="TIME", help="Time at which the session expires: 2026-12-01T00:00:00Z.")
@with_ttl
@click.option("--event-id", help="Idempotency key, any text: a call sent twice creates one session.")
def new(
    as_json: bool,
    url: str | None,
    question: str | None,
    user: str | None,
    session_id: str | None,
    tags: tuple[str, ...],
    attributes: tuple[str, ...],
    ttl_hours: timedelta | None,
    event_id: str | None,
    **single: str | None,
) -> None:
    """Create a session and print its id. Creates the ledger if it does not exist."""
    fields: dict[str, Any] = {name: value for name, value in single.items() if value is not None}
    if tags:
        fields["tag"] = dict.fromkeys(tags, True)
    if attributes:
        fields["attribute"] = parse_pairs(attributes, "--attribute")
    with opened(url, create=True) as ledger:
        session_id = ledger.create_session(
            user or default_user(), question, fields=fields, session_id=session_id, ttl=ttl_hours, event_id=event_id
        )
    if as_json:
        print_json({"session_id": session_id})
    else:
        click.echo(safe(session_id))


@command(
    "set",
    'ledger set SESSION_ID summary "Orders peaked in February."',
    'ledger set SESSION_ID constraints \'{"kpi": ["orders"]}\'',
    "ledger set SESSION_ID attribute --key reward 1.0 --json-value",
    "ledger set SESSION_ID strategy --from strategy.md",
    "ledger set SESSION_ID tag --key weekly --remove",
    into=COMMANDS,
)
@session_argument
@click.argument("field")
@click.argument("value", required=False)
@click.option("--key", help="Key of the value, for fields with many values: attribute, context, tag, score ...")
@with_json_value
@with_file
@click.option("--remove", is_flag=True, help="Remove the field.")
@with_envelope
def set_(
    as_json: bool,
    url: str | None,
    session_id: str,
    field: str,
    value: str | None,
    key: str | None,
    json_value: bool,
    source: Any,
    remove: bool,
    **envelope: Any,
) -> None:
    """Set one field of a session, or remove it.

    VALUE is text, exactly as typed (1.0 is text). It is parsed as JSON with --json-value, and for fields that cannot
    hold text: constraints, response_plan, error, tag and others. The error for an unknown FIELD suggests or lists
    fields.
    """
    if remove:
        if value is not None or source is not None or json_value:
            raise click.UsageError("--remove takes no value.", click.get_current_context())
        change: Any = None
    elif value is None and source is None and field == "tag":
        change = True
    else:
        change = parse_value(field, _text_given(value, source, "VALUE"), as_json=json_value)
    with opened(url) as ledger:
        print_appended(_set(ledger, session_id, field, key, change, remove, **envelope), as_json)


def _set(
    ledger: SessionLedger,
    session_id: str,
    field: str,
    key: str | None,
    value: Any,
    remove: bool,
    **envelope: Unpack[Envelope],
) -> AppendResult:
    """Set a field, or remove it.

    ``update_session`` sets the value, because it also gives new tool calls in ``constraints`` the status pending. In
    three cases ``append`` records one change instead: if the field is removed, if the value is null, and if a key is
    given for a field that has no keys.

    Raises:
        InvalidInput: The field does not exist, its value is not valid, or a key is missing or not allowed.
    """
    if remove or value is None or (key is not None and not _keyed(field)):
        change = Change(field, key or "", None if remove else value, remove)
        return ledger.append(session_id, "session.updated", [change], **envelope)
    if not _keyed(field):
        return ledger.update_session(session_id, {field: value}, **envelope)
    if key is None:
        raise InvalidInput(f"{field} has many values; name one with --key.")
    return ledger.update_session(session_id, {field: {key: value}}, **envelope)


def _keyed(field: str) -> bool:
    from ledger.model.fields import field_named

    return field_named(field).keyed


@command(
    "message",
    'ledger message SESSION_ID user "And the week before?"',
    "ledger message SESSION_ID assistant --from answer.md --tool sql --tokens 312",
    into=COMMANDS,
)
@session_argument
@click.argument("role", metavar="ROLE", type=click.Choice(ROLES))
@click.argument("content", required=False)
@with_json_value
@with_file
@click.option(
    "--id", "message_id", help="Id of the message; replaces a message with this id.  [default: a generated id]"
)
@click.option("--tool", "tools_used", multiple=True, metavar="NAME", help="Name of a tool used. May be repeated.")
@click.option("--tokens", "token_count", type=click.IntRange(min=0), help="Number of tokens.")
@click.option("--ms", "processing_time_ms", type=NumberRange(min=0), help="Processing time in milliseconds.")
@click.option("--metadata", metavar="JSON", help="Metadata of the message, an object.")
@with_envelope
def message(
    as_json: bool,
    url: str | None,
    session_id: str,
    role: Role,
    content: str | None,
    json_value: bool,
    source: Any,
    message_id: str | None,
    tools_used: tuple[str, ...],
    token_count: int | None,
    processing_time_ms: float | None,
    metadata: str | None,
    expected_version: int | None,
    event_id: str | None,
    actor: str | None,
) -> None:
    """Add a message to a session.

    ROLE is system, developer, user, assistant, tool or function.
    """
    text = _text_given(content, source, "CONTENT")
    with opened(url) as ledger:
        appended = ledger.add_message(
            session_id,
            role,
            parse_json(text, "CONTENT") if json_value else text,
            message_id=message_id,
            tools_used=list(tools_used) or None,
            token_count=token_count,
            processing_time_ms=processing_time_ms,
            metadata=None if metadata is None else parse_json(metadata, "--metadata"),
            expected_version=expected_version,
            event_id=event_id,
            actor=actor,
        )
    print_appended(appended, as_json)


@command(
    "tool",
    'ledger tool SESSION_ID "Orders Trend for CFC-1" running',
    'ledger tool SESSION_ID "Orders Trend for CFC-1" completed --result \'{"rows": 3}\'',
    into=COMMANDS,
)
@session_argument
@click.argument("name")
@click.argument("status", metavar="STATUS", type=click.Choice(TOOL_STATUSES))
@click.option("--result", metavar="JSON", help="Result of the call.  [default: unchanged]")
@click.option("--result-text", metavar="TEXT", help="Result of the call, as text.")
@click.option(
    "--result-from",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Read the result from a JSON file.",
)
@with_envelope
def tool(
    as_json: bool,
    url: str | None,
    session_id: str,
    name: str,
    status: ToolStatus,
    result: str | None,
    result_text: str | None,
    result_from: Path | None,
    **envelope: Any,
) -> None:
    """Set the status and result of a tool call.

    NAME is the call's id, or its name if the name is unique. An unknown NAME creates a tool call. STATUS is pending,
    running, completed or failed.
    """
    results = [each for each in (result, result_text, result_from) if each is not None]
    if len(results) > 1:
        raise click.UsageError(
            "Pass only one of --result, --result-text and --result-from.", click.get_current_context()
        )
    extra: dict[str, Any] = {}
    if result_text is not None:
        extra["result"] = result_text
    elif results:
        text = decode_text(result_from.read_bytes(), "the result") if result_from else str(result)
        extra["result"] = parse_json(text, "the result")
    with opened(url) as ledger:
        appended = ledger.update_tool_call_status(session_id, name, status, **extra, **envelope)
    print_appended(appended, as_json)
