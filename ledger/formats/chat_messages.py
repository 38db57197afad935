"""Messages of chat runs, and the tool calls that they plan and answer, in the forms in which APIs write them.

| Form | A call is planned by | and answered by |
|---|---|---|
| Chat Completions | ``tool_calls`` (``function``, ``custom``), ``function_call`` | role ``tool`` or ``function`` |
| Ollama, LangChain | ``tool_calls``, without ids or ``function`` | role ``tool``, ``tool_name``, ``status`` |
| Responses | an item ``function_call``, ``custom_tool_call``, ``..._call`` | an item ``..._output``, or itself |
| Anthropic Messages | a content block ``tool_use``, ``..._tool_use`` | a block ``tool_result``, ``..._tool_result`` |

Source: the types of the packages openai (``types/chat``, ``types/responses``), anthropic (``types``) and ollama.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from ledger.errors import InvalidInput

#: Prefix of an answer that reports the failure of a tool. Agent frameworks use it by custom. In the recorded runs that
#: were examined, all such answers begin with it, and no other answers do.
FAILED = "Error:"
_TEXT_PARTS = (None, "text", "input_text", "output_text")
_ANSWERING = ("tool", "function")
#: Items of the Responses API that name the tool they call.
_NAMED = ("function_call", "custom_tool_call", "mcp_call")


@dataclass(frozen=True, slots=True)
class Planned:
    """A tool call that a message plans. ``call_id`` is None if the run gives it no id."""

    call_id: str | None
    name: str
    arguments: Any


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a tool call, which its id names or else the tool's name.

    Attributes:
        content: The answer; text if it consists of text parts only.
        failed: True if the tool failed.
        has_result: False if only the status of the call is known.
    """

    call_id: str | None
    name: str | None
    content: Any
    failed: bool
    has_result: bool = True


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a run. ``metadata`` has the keys of the input that are not in another attribute."""

    role: str
    content: Any
    metadata: Mapping[str, Any] = field(default_factory=dict)
    planned: tuple[Planned, ...] = ()
    answered: tuple[Answered, ...] = ()


class _Loose(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Function(_Loose):
    name: str
    arguments: Any = None


class _Custom(_Loose):
    name: str
    input: Any = None


class _Call(_Loose):
    id: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None
    name: str | None = None
    args: Any = None


class ChatMessage(_Loose):
    """A message in the form of Chat Completions, or an item of the Responses API, which may have no role."""

    role: str | None = None
    type: str | None = None
    content: Any = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None
    tool_call_id: str | None = None
    name: str | None = None

    def read(self, where: str) -> Message:
        """Return the message with its calls and answers.

        Raises:
            InvalidInput: The message has neither a role nor the type of an item, or a call has no name.
        """
        given: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set} | (self.model_extra or {})
        if self.role is None:
            return _item(given, self.type, where)
        apart = {"role", "content", "tool_calls"} | {
            name for name in ("tool_call_id", "name") if given.get(name) is None
        }
        if self.function_call is not None:
            apart.add("function_call")
        metadata = {name: value for name, value in given.items() if name not in apart}
        planned = (*self._planned(where), *_planned_in(self.content, where))
        answered = (*self._answered(given), *_answered_in(self.content))
        role = self.role
        if role == "user" and answered and len(answered) == len(self.content):
            role, metadata = "tool", {**metadata, "role": self.role}
        return Message(role, self.content, metadata, planned, answered)

    def _planned(self, where: str) -> Iterator[Planned]:
        for index, call in enumerate(self.tool_calls or ()):
            if call.function is not None:
                yield Planned(call.id or None, call.function.name, call.function.arguments)
            elif call.custom is not None:
                yield Planned(call.id or None, call.custom.name, call.custom.input)
            elif call.name is not None:
                arguments = (call.model_extra or {}).get("arguments") if call.args is None else call.args
                yield Planned(call.id or None, call.name, arguments)
            else:
                raise InvalidInput(f"{where}.tool_calls.{index} has no function, custom tool or name.")
        if self.function_call is not None:
            yield Planned(None, self.function_call.name, self.function_call.arguments)

    def _answered(self, given: Mapping[str, Any]) -> Iterator[Answered]:
        if self.role in _ANSWERING:
            name = self.name or given.get("tool_name")
            failed = given.get("status") == "error" or given.get("is_error") is True
            yield _answer(self.tool_call_id, name if isinstance(name, str) else None, self.content, failed)


def text_of(content: Any) -> str | None:
    """Return the text in a message's content, which is text or a list of parts; None if it contains no text."""
    if isinstance(content, list):
        parts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        return "\n".join(parts) or None
    return content if isinstance(content, str) else None


def answering_role(role: str) -> bool:
    """Return True if messages of a role answer tool calls."""
    return role in _ANSWERING


def is_call_block(block: Any) -> bool:
    """Return True if a content block of Anthropic's API is a tool call or an answer to one."""
    return isinstance(block, dict) and str(block.get("type")).endswith(("tool_use", "tool_result"))


def _answer(call_id: Any, name: str | None, content: Any, failed: bool) -> Answered:
    if isinstance(content, list) and content and all(_is_text_part(part) for part in content):
        content = text_of(content) or ""
    failed = failed or (isinstance(content, str) and content.startswith(FAILED))
    return Answered(call_id if isinstance(call_id, str) and call_id else None, name, content, failed)


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str)


def _blocks(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, list):
        yield from (block for block in content if isinstance(block, dict))


def _planned_in(content: Any, where: str) -> Iterator[Planned]:
    """Yield the calls in the content blocks of Anthropic's API."""
    for index, block in enumerate(_blocks(content)):
        if str(block.get("type")).endswith("tool_use"):
            name = block.get("name")
            if not isinstance(name, str):
                raise InvalidInput(f"{where}.content.{index} is a tool call without a name.")
            call_id = block.get("id")
            yield Planned(call_id if isinstance(call_id, str) and call_id else None, name, block.get("input"))


def _answered_in(content: Any) -> Iterator[Answered]:
    """Yield the answers in the content blocks of Anthropic's API."""
    for block in _blocks(content):
        if str(block.get("type")).endswith("tool_result"):
            answer = block.get("content")
            error = isinstance(answer, dict) and str(answer.get("type")).endswith("_error")
            yield _answer(block.get("tool_use_id"), None, answer, error or block.get("is_error") is True)


def _item(item: Mapping[str, Any], kind: str | None, where: str) -> Message:
    """Return an item of the Responses API that is no message. Its keys are kept as metadata, except call and answer."""
    if kind is None:
        raise InvalidInput(f"{where} has no role, and no type as an item of the Responses API has.")
    if kind.endswith("_output"):
        metadata = {name: value for name, value in item.items() if name != "output"}
        content = item.get("output")
        return Message("tool", content, metadata, answered=(_answer(item.get("call_id"), None, content, False),))
    if not kind.endswith("_call"):
        summary = text_of(item.get("content")) or text_of(item.get("summary"))
        return Message("user" if kind.endswith("_response") else "assistant", summary, dict(item))
    found = item.get("call_id") or item.get("id")
    call_id = found if isinstance(found, str) and found else None
    if kind in _NAMED:
        asked = "input" if kind == "custom_tool_call" else "arguments"
        name = item.get("name")
        if not isinstance(name, str):
            raise InvalidInput(f"{where} is a tool call without a name.")
        planned = Planned(call_id, name, item.get(asked))
        left_out = {asked, "output"} if kind == "mcp_call" else {asked}
    else:  # a tool that OpenAI runs, such as web_search_call; what it was asked is in several keys
        planned = Planned(call_id, kind.removesuffix("_call"), _asked(item))
        left_out = set(_asked(item)) | {"output", "outputs", "result", "results"}
    metadata = {key: value for key, value in item.items() if key not in left_out}
    return Message("assistant", None, metadata, (planned,), tuple(_own_answer(item, kind, call_id)))


def _asked(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item[name] for name in ("action", "queries", "code", "operation", "environment") if name in item}


def _own_answer(item: Mapping[str, Any], kind: str, call_id: str | None) -> Iterator[Answered]:
    """Yield the answer that an item has itself, if it is a call of a tool that OpenAI runs."""
    error, status = item.get("error"), item.get("status")
    results = [item[name] for name in ("output", "outputs", "results", "result") if item.get(name) is not None]
    if kind == "mcp_call" and (error is not None or results):
        yield _answer(call_id, None, results[0] if error is None else error, error is not None)
    elif kind not in _NAMED and "call_id" not in item and status in ("completed", "failed"):
        failed = status == "failed"
        yield Answered(call_id, None, results[0] if results else None, failed, has_result=bool(results))
