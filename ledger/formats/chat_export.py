"""Export of sessions as runs in the OpenAI chat form, one a line, for evaluation and fine-tuning.

``import_runs`` of ``ledger.formats.openai_chat`` reads the lines. A line has ``session_id``, ``user_id``, ``title``,
``created_at``, ``updated_at``, ``scores``, the session's attributes and results under their names, and ``messages``.
A message has the keys of Chat Completions, and those that an imported message had beside them. A tool call belongs to
the message that planned it or, without one, to a message of its own; its result follows as a message of the role
``tool``. What lines do not have is listed in docs/exports.md.

Source: the types of the package openai (``types/chat``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ledger.errors import SessionNotFound
from ledger.formats.chat_messages import FAILED, answering_role, is_call_block
from ledger.model.fold import State
from ledger.model.instants import to_text
from ledger.model.session import Message, Session, ToolCall
from ledger.model.tool_calls import arguments_of
from ledger.model.values import canonical
from ledger.stores.base import EventStore

#: The keys that Chat Completions gives to messages, and that fine-tuning accepts.
_OF_API = ("role", "content", "name", "tool_calls", "tool_call_id")
#: Keys of a recorded message's metadata that are written in another form.
_REWRITTEN = ("call_ids", "role", "content", "tool_calls", "function_call")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A session that has no line, and why: ``erased values``, ``no messages``, ``deleted`` or a score."""

    session_id: str
    reason: str


def export_chats(
    store: EventStore,
    session_ids: Iterable[str],
    *,
    messages_only: bool = False,
    min_scores: Mapping[str, float] | None = None,
    leave_out: Callable[[LeftOut], object] = lambda left_out: None,
) -> Iterator[bytes]:
    """Yield a line for each of the given sessions, in the given order. One session is in memory at a time.

    A session that is deleted, or of which a value was erased, has no line; neither has one without messages and
    question.

    Args:
        store: The store.
        session_ids: The sessions.
        messages_only: True to write nothing but messages, with the keys of Chat Completions alone, for fine-tuning.
        min_scores: The least value of scores, by their name. A session has no line if one of them is lower or missing.
        leave_out: Called with each session that has no line.

    Raises:
        SessionNotFound: A session does not exist.
    """
    for session_id in session_ids:
        found = store.state(session_id, with_messages=True)
        if found is None:
            raise SessionNotFound(
                f"There is no session {session_id}. List the sessions with: ledger list", session_id=session_id
            )
        head, state = found
        session = Session(head, state, with_messages=True)
        reason = _reason(session, state, min_scores or {})
        messages = [] if reason else chat_messages(session, state)
        if reason or not messages:
            leave_out(LeftOut(session_id, reason or "no messages"))
        elif messages_only:
            plain = [{name: message[name] for name in _OF_API if name in message} for message in messages]
            yield orjson.dumps({"messages": plain}, option=orjson.OPT_APPEND_NEWLINE)
        else:
            yield orjson.dumps({**_about(session), "messages": messages}, option=orjson.OPT_APPEND_NEWLINE)


def chat_messages(session: Session, state: State) -> list[dict[str, Any]]:
    """Return the messages of a session, with its tool calls and their results, in the form of Chat Completions.

    Args:
        session: The session, with its messages.
        state: Its state.
    """
    calls = {call.call_id: call for call in session.calls}
    messages = {message.message_id: message for message in session.messages}
    planned: dict[str, list[ToolCall]] = {}
    alone: dict[int, list[ToolCall]] = {}
    for call in calls.values():
        message = messages.get(str(call.definition.get("message_id")))
        if message is not None and not answering_role(message.role):
            planned.setdefault(message.message_id, []).append(call)
        else:
            held = state.get(("tool_call", call.call_id)) or state["tool_call_status", call.call_id]
            alone.setdefault(held.version, []).append(call)
    answered = {key for message in messages.values() for key in _answered_by(message, calls)}
    steps: list[tuple[int, int, list[dict[str, Any]]]] = []
    for message in messages.values():
        own = planned.get(message.message_id, [])
        steps.append((message.version, 0, _written(message, own, _answered_by(message, calls), calls)))
        steps[-1][2].extend(_results(own, answered))
    for version, group in alone.items():
        call_message = {"role": "assistant", "content": None, "tool_calls": [_call(call) for call in group]}
        steps.append((version, 1, [call_message, *_results(group, answered)]))
    steps.sort(key=lambda step: step[:2])
    said = [message for _, _, each in steps for message in each]
    if session.question is not None and not any(message["role"] == "user" for message in said):
        said.insert(sum(message["role"] in ("system", "developer") for message in said[:1]), _asked(session.question))
    return said


def _reason(session: Session, state: State, min_scores: Mapping[str, float]) -> str | None:
    """Return why a session has no line; None if it may have one."""
    if session.status == "deleted":
        return "deleted"
    if any(held.text is None for held in state.values()):
        return "erased values"
    for name, least in min_scores.items():
        values = [score.get("value") for score in session.scores.values() if score.get("name") == name]
        numbers = [value for value in values if isinstance(value, int | float)]  # True is 1, as in the view scores
        if not numbers:
            return f"no score {name}"
        if min(numbers) < least:
            return f"score {name} below {least:g}"
    return None


def _about(session: Session) -> dict[str, Any]:
    """Return the keys of a line without its messages."""
    own = {
        "session_id": session.session_id,
        "user_id": session.user_id,
        "title": session.title,
        "created_at": to_text(session.created_at),
        "updated_at": to_text(session.updated_at),
        "scores": list(session.scores.values()) or None,
    }
    given = {name: value for name, value in own.items() if value is not None}
    named = {**session.results, **session.attributes}
    return given | {name: value for name, value in named.items() if name not in given and name != "messages"}


def _answered_by(message: Message, calls: Mapping[str, ToolCall]) -> list[str]:
    """Return the keys of the calls that a message answers, and did not plan."""
    metadata = message.metadata if isinstance(message.metadata, dict) else {}
    listed = metadata.get("call_ids")
    keys = listed if isinstance(listed, list) else []
    if not keys and answering_role(message.role):
        keys = [metadata.get("tool_call_id")]
    return [
        key
        for key in keys
        if isinstance(key, str) and key in calls and calls[key].definition.get("message_id") != message.message_id
    ]


def _written(
    message: Message, planned: Sequence[ToolCall], answers: Sequence[str], calls: Mapping[str, ToolCall]
) -> list[dict[str, Any]]:
    """Return a recorded message as one message, or as several if it answers several calls."""
    metadata = message.metadata if isinstance(message.metadata, dict) else {}
    beside = {name: value for name, value in metadata.items() if name not in _REWRITTEN}
    content = message.content
    blocks = isinstance(content, list) and any(is_call_block(block) for block in content)
    if answers and (blocks or len(answers) > 1):
        results = [_result(calls[key]) for key in answers]
        rest = [block for block in content if not is_call_block(block)] if blocks else []
        return [*results, {"role": message.role, "content": rest, **beside}] if rest else results
    if blocks:
        content = [block for block in content if not is_call_block(block)] or None
    found: dict[str, Any] = {"role": message.role, "content": content, **beside}
    measured = {"token_count": message.token_count, "processing_time_ms": message.processing_time_ms}
    found |= {name: value for name, value in measured.items() if value is not None}
    if planned:
        found["tool_calls"] = [_call(call) for call in planned]
    if answers and answering_role(message.role):
        found["role"] = "tool"  # also for "function", the role of answers before there were tool calls
        found.setdefault("tool_call_id", _id(calls[answers[0]]))
    return [found]


def _results(calls: Iterable[ToolCall], answered: set[str]) -> list[dict[str, Any]]:
    """Return the messages with the results of those calls that no recorded message answers."""
    return [
        _result(call) for call in calls if call.call_id not in answered and (call.has_result or call.status == "failed")
    ]


def _result(call: ToolCall) -> dict[str, Any]:
    text = call.result if isinstance(call.result, str) else canonical(call.result) if call.has_result else FAILED
    is_marked = call.status == "failed" and not text.startswith(FAILED)
    marks = {"is_error": True} if is_marked else {}
    return {"role": "tool", "tool_call_id": _id(call), "name": call.name, "content": text, **marks}


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = arguments_of(call.definition)
    text = arguments if isinstance(arguments, str) else canonical({} if arguments is None else arguments)
    return {"id": _id(call), "type": "function", "function": {"name": call.name, "arguments": text}}


def _id(call: ToolCall) -> str:
    """Return the id of a call as the run gave it; its key differs if the run gave an id twice."""
    given = call.definition.get("id")
    return given if isinstance(given, str) and given else call.call_id


def _asked(question: str) -> dict[str, Any]:
    return {"role": "user", "content": question}
