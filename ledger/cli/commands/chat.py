"""Commands of the chat store. A chat is a session of the type ``chat``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened
from ledger.cli.number_range import NumberRange
from ledger.cli.output.shapes import json_text, print_json
from ledger.cli.output.text import counted, one_line, safe, shown
from ledger.errors import ConfigurationError, SessionNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledger.compat.chat_store import ChatSession, Message, SessionStore
    from ledger.sdk.ledger import SessionLedger

from ledger.cli.session_ids import SESSION, session_argument

COMMANDS: dict[str, click.Command] = {}
#: Number of messages that ``ledger query`` prints.
RECENT = 10
#: Maximum number of seconds that the program of `ledger query --answer-command` may take.
ANSWER_SECONDS = 600.0


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
    "ledger query 'books by Oxford' --session-id SESSION_ID --answer-command 'python -m app.answer'",
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
@click.option(
    "--answer-command",
    metavar="COMMAND",
    help="Program that answers. It gets the chat as JSON on its standard input: session_id, user_id, context and "
    "messages, of which the question is the last. Its output is recorded as the assistant's message.",
)
def query(as_json: bool, url: str | None, text: str, session_id: str, answer_command: str | None) -> None:
    """Record a question as a message of the user, and print the chat's context and newest messages.

    The ledger does not answer the question. The program that answers it is given as --answer-command, or records the
    answer with `ledger message SESSION_ID assistant TEXT` or SessionStore.add_message(). If the command fails, the
    question is recorded and no answer.
    """
    from ledger.compat.chat_store import Message, SessionStore

    answering = None if answer_command is None else _answering(answer_command)
    with opened(url) as ledger:
        store = SessionStore(ledger=ledger)
        _chat(store, session_id)
        question = Message(role="user", content=text)
        recorded = {"message_id": question.message_id}
        if answering is None:
            store.add_message(session_id, question)
        else:
            recorded["answer_id"] = store.ask(session_id, question, answering).message_id
        chat = _chat(store, session_id)
        messages = chat.get_recent_messages(RECENT)
    if as_json:
        print_json({**recorded, **_chat_object(chat, messages)})
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


def _answering(command: str) -> Callable[[ChatSession], str]:
    """Return a function that runs a command, with the chat on its standard input, and returns its output.

    Raises:
        InvalidInput: The command cannot be read.
    """
    from ledger.sdk.programs import FAILURES, arguments_of, reason_of, run

    arguments = arguments_of(command, otherwise="nothing was recorded")

    def answer(chat: ChatSession) -> str:
        given = json_text(_chat_object(chat, chat.messages), indent=False)
        try:
            text = run(arguments, given.encode(), seconds=ANSWER_SECONDS).decode().strip()
            reason = None if text else "it printed no answer"
        except (*FAILURES, UnicodeDecodeError) as error:
            text, reason = "", reason_of(error)
        if reason is not None:
            raise ConfigurationError(
                f"The question is recorded, and no answer: the command {arguments[0]} failed, {reason}. To record an "
                f"answer: ledger message {chat.session_id} assistant TEXT"
            )
        return text

    return answer


def _database(ledger: SessionLedger) -> str:
    """Return the path in the URL of a SQLite ledger. For any other ledger, return the URL."""
    from ledger.stores.urls import SqliteFile, parse_url

    parsed = parse_url(ledger.url)
    return str(parsed.path) if isinstance(parsed, SqliteFile) else ledger.url


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
