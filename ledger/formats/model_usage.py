"""Model calls of recorded runs, from the usage that a message or a run reports, in the forms in which APIs write it.

| Form | Tokens of the prompt and of the answer | Object with ``cached_tokens`` or ``reasoning_tokens`` |
|---|---|---|
| Chat Completions | ``prompt_tokens``, ``completion_tokens`` | the same with ``_details`` |
| Responses | ``input_tokens``, ``output_tokens`` | the same with ``_details`` |
| Anthropic Messages | ``input_tokens``, ``output_tokens`` | none: ``cache_read_input_tokens``, counted apart |
| LangChain | the same in ``usage_metadata`` | ``input_token_details``, ``output_token_details`` |

Source: the types of the packages openai, anthropic and langchain-core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ledger.formats.times import number_of
from ledger.model.events import Change

#: The model of a call if neither the message nor the run names it.
UNKNOWN = "unknown"
#: Call id of the call that stands for a whole run.
OF_RUN = "run"
_USAGE = ("usage", "usage_metadata")
_PROMPT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_ANSWER_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")
#: Tokens of the prompt that Anthropic's API does not count in ``input_tokens``.
_APART = ("cache_read_input_tokens", "cache_creation_input_tokens")
_INT64 = 2**63


def model_calls(run: Mapping[str, Any], messages: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Change]]:
    """Return the changes that record the model calls of a run, by call id.

    The id of a message's call is that of the message. If no message reports its usage, that of the run becomes one call
    with the id ``OF_RUN``; otherwise it is their sum, or that of some of them.

    Args:
        run: The keys of the run, which name model and provider if a message does not.
        messages: The keys of each message, by message id.
    """
    found = [_call(keys, run, message_id, message_id) for message_id, keys in messages.items()]
    if not any(found):
        found = [_call(run, run, OF_RUN, None)]
    return {change.key: [change] for change in found if change is not None}


def amounts(keys: Mapping[str, Any]) -> dict[str, int | float]:
    """Return the amounts among a message's keys that are parts of a message in the ledger too."""
    tokens, duration = _whole(keys.get("token_count")), keys.get("processing_time_ms")
    found: dict[str, int | float] = {} if tokens is None else {"token_count": tokens}
    if isinstance(duration, int | float) and not isinstance(duration, bool) and duration >= 0:
        found["processing_time_ms"] = duration
    return found


def _call(given: Mapping[str, Any], run: Mapping[str, Any], call_id: str, message_id: str | None) -> Change | None:
    """Return the change for the call of a message or a run; None if it reports no usage."""
    tokens = _tokens(_object(given, _USAGE))
    if not tokens:
        return None
    parts: dict[str, Any] = {
        "provider": _text((given, run), ("provider",)),
        "finish_reason": _text((given, _answer(given)), ("finish_reason", "stop_reason")),
        "message_id": message_id,
        **tokens,
    }
    model = _text((given, _answer(given), run, _answer(run)), ("model", "model_name")) or UNKNOWN
    return Change("model_call", call_id, {"model": model} | {name: it for name, it in parts.items() if it is not None})


def _whole(value: Any) -> int | None:
    """Return a whole number from 0 up, or the one that a text consists of; None for any other value."""
    number = number_of(value)
    return int(number) if number is not None and 0 <= number < _INT64 and number == int(number) else None


def _tokens(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return the numbers of tokens in a usage by the ledger's names; none if it counts nothing."""
    prompt = _number(usage, ("prompt_tokens", "input_tokens"))
    answer = _number(usage, ("completion_tokens", "output_tokens"))
    cached = _number(_object(usage, _PROMPT_DETAILS), ("cached_tokens", "cache_read"))
    if _whole(usage.get("prompt_tokens")) is None and any(name in usage for name in _APART):
        prompt = (prompt or 0) + sum(_whole(usage.get(name)) or 0 for name in _APART)
        cached = _whole(usage.get(_APART[0]))
    found = {
        "input_tokens": prompt,
        "output_tokens": answer,
        "cached_input_tokens": cached,
        "reasoning_tokens": _number(_object(usage, _ANSWER_DETAILS), ("reasoning_tokens", "reasoning")),
    }
    used = prompt or answer  # a usage of zeros is one that the program did not fill in
    return {name: number for name, number in found.items() if number is not None} if used else {}


def _number(given: Mapping[str, Any], names: Iterable[str]) -> int | None:
    return next((number for name in names if (number := _whole(given.get(name))) is not None), None)


def _object(given: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    return next((given[name] for name in names if isinstance(given.get(name), Mapping)), {})


def _answer(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what LangChain keeps of the answer of the model's API."""
    return _object(given, ("response_metadata",))


def _text(places: Iterable[Mapping[str, Any]], names: Iterable[str]) -> str | None:
    """Return the first text that one of the objects has under one of the names; None if none has any."""
    found = (place.get(name) for place in places for name in names)
    return next((text for text in found if isinstance(text, str) and text), None)
