"""Commands of the chat store. A chat is a session of the type ``chat``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened
from ledger.cli.number_range import NumberRange
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import counted, one_line, safe, shown
from ledger.errors import SessionNotFound

if TYPE_CHECKING:
    from ledger.compat.chat_store import ChatSession, Message, SessionStore
    from ledger.sdk.ledger import SessionLedger

from ledger.cli.session_ids import SESSION, session_argument

COMMANDS: dict[str, click.Command] = {}
#: Number of messages that ``ledger query`` prints.
RECENT = 10


@command(
    "chat-init",
    "ledger chat-init",
    "ledger chat-init --user-id user123",
    "ledger --url sqlite:///data/chat/sessions.db chat-init",
    into=COMMANDS,
)
@click.option("--user-id", help="Owner of the chat.  [default: the anonymous user]")
def chat_init(as_json: bool, url: str | None, user_id: str | None) -> None:
    """Create a chat, and the ledger if it does not exist."""
    from ledger.compat.chat_store import ANONYMOUS, SessionStore

    with opened(url, create=True) as ledger:
        chat = SessionStore(ledger=ledger).create_session(user_id)
        created = {"session_id": chat.session_id, "user_id": chat.user_id, "database": _database(ledger)}
    if as_json:
        print_json(created)
        return
    click.echo(f"Created session: {safe(chat.session_id)}")
    click.echo(f"User: {safe(chat.user_id or ANONYMOUS)}")
    click.echo(f"Database: {safe(_database(ledger))}")


@command(
    "query",
    'ledger query "books by Oxford" --session-id SESSION_ID',
    into=COMMANDS,
)
@click.argument("text")
@click.option(
    "--session-id",
    required=True,
    type=SESSION,
    metavar="SESSION_ID",
    help="Id of the chat, as printed by `ledger chat-init`.",
)
def query(as_json: bool, url: str | None, text: str, session_id: str) -> None:
    """Record a question as a message of the user, and print the chat's context and newest messages.

    The ledger does not answer the question. The program that answers it records the answer with `ledger message
    SESSION_ID assistant TEXT` or SessionStore.add_message().
    """
    from ledger.compat.chat_store import Message, SessionStore

    with opened(url) as ledger:
        store = SessionStore(ledger=ledger)
        _chat(store, session_id)
        message_id = store.add_message(session_id, Message(role="user", content=text))
        chat = _chat(store, session_id)
        messages = chat.get_recent_messages(RECENT)
    if as_json:
        print_json({"message_id": message_id, **_chat_object(chat, messages)})
        return
    if chat.context:
        click.echo(f"context: {_within(chat.context)}")
    _echo(messages)


@command(
    "chat-history",
    "ledger chat-history SESSION_ID",
    "ledger chat-history SESSION_ID --last 10",
    into=COMMANDS,
)
@session_argument
@click.option("--last", type=click.IntRange(1, 10_000), help="Show only this many newest messages.")
def chat_history(as_json: bool, url: str | None, session_id: str, last: int | None) -> None:
    """Show the messages of a chat in order."""
    from ledger.compat.chat_store import SessionStore

    with opened(url) as ledger:
        chat = _chat(SessionStore(ledger=ledger), session_id)
        messages = chat.messages if last is None else chat.get_recent_messages(last)
    if as_json:
        print_json(_chat_object(chat, messages))
    else:
        _echo(messages)


@command(
    "chat-cleanup",
    "ledger chat-cleanup --max-age-hours 24",
    into=COMMANDS,
)
@click.option(
    "--max-age-hours",
    type=NumberRange(min=0),
    default=24,
    show_default=True,
    help="Expire chats without an event for this many hours.",
)
def chat_cleanup(as_json: bool, url: str | None, max_age_hours: float) -> None:
    """Expire inactive chats. Their history is kept; sessions of other types are not changed."""
    from ledger.compat.chat_store import SessionStore

    with opened(url) as ledger:
        expired = SessionStore(ledger=ledger).expire_old_sessions(max_age_hours)
    if as_json:
        print_json({"expired": expired})
    else:
        click.echo(f"Expired {counted(expired, 'session')}.")


def _chat(store: SessionStore, session_id: str) -> ChatSession:
    chat = store.get_session(session_id)
    if chat is None:
        raise SessionNotFound(
            f"The chat {session_id} has expired or does not exist. Create one with: ledger chat-init. `ledger show` "
            "shows sessions of every type, expired ones as well.",
            session_id=session_id,
        )
    return chat


def _database(ledger: SessionLedger) -> str:
    """Return the path in the URL of a SQLite ledger. For any other ledger, return the URL."""
    from ledger.stores.urls import SqliteFile, parse_url

    parsed = parse_url(ledger.url)
    return parsed.path if isinstance(parsed, SqliteFile) else ledger.url


def _chat_object(chat: ChatSession, messages: list[Message]) -> dict[str, Any]:
    return {
        "session_id": chat.session_id,
        "user_id": chat.user_id,
        "context": chat.context,
        "messages": [dict(message) for message in messages],
    }


def _echo(messages: list[Message]) -> None:
    for message in messages:
        click.echo(f"[{one_line(message.role)}] {_within(message.content)}")


def _within(value: Any) -> str:
    """Return a value as text. Its lines after the first are indented, so that they cannot imitate another message."""
    return safe(shown(value)).replace("\n", "\n  ")
