"""Writes of keyed fields: queries, model calls, context, results, attributes and their profiles, tags and scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Unpack

from ledger.errors import InvalidInput
from ledger.model.events import AppendResult, Change, Envelope
from ledger.model.json_form import error_value, json_form
from ledger.model.values import check_text, full_name, named
from ledger.sdk.command_base import CommandBase

if TYPE_CHECKING:
    from pydantic import BaseModel


class KeyedFields(CommandBase):
    """Mixin class: writes of keyed fields. Each call appends one event, with one change per key."""

    def add_query(
        self,
        session_id: str,
        query_type: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        result_summary: Any = None,
        cache_hit: bool = False,
        execution_time_ms: float | None = None,
        query_id: str | None = None,
        **envelope: Unpack[Envelope],
    ) -> AppendResult:
        """Record a query that was made for a session. ``Session.query_statistics`` summarizes a session's queries.

        Args:
            session_id: The session.
            query_type: The kind of query, for example ``price``.
            parameters: A JSON object.
            result_summary: Any JSON value.
            cache_hit: True if the answer came from a cache.
            execution_time_ms: Execution time in milliseconds.
            query_id: Your own id, 1 to 255 characters; the event_id if None. An existing query with this id is
                replaced.
            envelope: See ``Envelope``.

        Raises:
            SessionNotFound: The session does not exist.
            SessionEnded: The session is expired or deleted; or archived, in a ledger in BigQuery.
            InvalidInput: A value cannot be recorded.
        """
        value = {
            "query_type": query_type,
            "parameters": {} if parameters is None else parameters,
            "result_summary": result_summary,
            "cache_hit": cache_hit,
            "execution_time_ms": execution_time_ms,
        }
        event_id = self._event_id(session_id, envelope)
        change = Change("query", event_id if query_id is None else query_id, value)
        return self._append(session_id, "query.added", [change], envelope, event_id=event_id)

    def record_model_call(
        self,
        session_id: str,
        model: str,
        *,
        provider: str | None = None,
        operation: str | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_input_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        cost_usd: float | Decimal | None = None,
        duration_ms: float | None = None,
        time_to_first_token_ms: float | None = None,
        finish_reason: str | None = None,
        message_id: str | None = None,
        error: BaseException | Mapping[str, str] | str | None = None,
        call_id: str | None = None,
        **envelope: Unpack[Envelope],
    ) -> AppendResult:
        """Record a call of a language model. What is None is not recorded.

        Args:
            session_id: The session.
            model: The model, for example ``gemini-2.5-flash``.
            provider: Who serves the model, for example ``google`` or ``openai``.
            operation: The kind of call, for example ``chat`` or ``embeddings``.
            input_tokens: Number of tokens of the prompt, with those that came from a cache.
            output_tokens: Number of tokens of the answer, with those of its reasoning.
            cached_input_tokens: Number of those of ``input_tokens`` that came from a cache.
            reasoning_tokens: Number of those of ``output_tokens`` that were spent on reasoning.
            cost_usd: The price of the call, in US dollars, from 0 up; a Decimal is recorded as a number, as by
                ``add_score``.
            duration_ms: Time until the answer was complete, in milliseconds.
            time_to_first_token_ms: Time until its first token, in milliseconds.
            finish_reason: Why the model stopped, for example ``stop`` or ``length``.
            message_id: The message that the call produced.
            error: If the call failed, an exception, ``{"type": ..., "message": ...}``, or the message.
            call_id: Your own id, 1 to 255 characters, such as the provider's id of the answer; the event_id if None.
                An existing call with this id is replaced.
            envelope: See ``Envelope``.

        Raises:
            SessionNotFound: The session does not exist.
            SessionEnded: The session is expired or deleted; or archived, in a ledger in BigQuery.
            InvalidInput: A value cannot be recorded, a number is negative, or the cached or reasoning tokens are more
                than those that they are part of.
        """
        _check_part("cached_input_tokens", cached_input_tokens, "input_tokens", input_tokens)
        _check_part("reasoning_tokens", reasoning_tokens, "output_tokens", output_tokens)
        value = {
            "model": model,
            "provider": provider,
            "operation": operation,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cached_input_tokens": cached_input_tokens,
            "reasoning_tokens": reasoning_tokens,
            "cost_usd": self._number(cost_usd),
            "duration_ms": duration_ms,
            "time_to_first_token_ms": time_to_first_token_ms,
            "finish_reason": finish_reason,
            "message_id": message_id,
            "error": None if error is None else error_value(error),
        }
        value = {part: known for part, known in value.items() if known is not None or part == "model"}
        event_id = self._event_id(session_id, envelope)
        change = Change("model_call", event_id if call_id is None else call_id, value)
        return self._append(session_id, "model_call.recorded", [change], envelope, event_id=event_id)

    def update_context(
        self,
        session_id: str,
        context: Mapping[str, Any],
        *,
        remove: Iterable[str] = (),
        **envelope: Unpack[Envelope],
    ) -> AppendResult:
        """Set and remove named values of the context; all other names keep their values.

        Args:
            session_id: The session.
            context: Mapping of name to any JSON value. A new value replaces the old one; objects are not merged.
            remove: Names to remove.
            envelope: See ``Envelope``.

        Raises:
            SessionNotFound, SessionEnded, InvalidInput: As for ``add_query``.
        """
        return self._append(session_id, "context.updated", _named("context", context, remove), envelope)

    def set_results(
        self, session_id: str, results: Mapping[str, Any], *, remove: Iterable[str] = (), **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Set and remove named intermediate results; all other names keep their values.

        Args:
            session_id: The session.
            results: Mapping of name to any JSON value.
            remove: Names to remove.
            envelope: See ``Envelope``.

        Raises:
            SessionNotFound, SessionEnded, InvalidInput: As for ``add_query``.
        """
        return self._append(session_id, "result.updated", _named("result", results, remove), envelope)

    def set_attributes(
        self,
        session_id: str,
        attributes: Mapping[str, Any],
        *,
        remove: Iterable[str] = (),
        **envelope: Unpack[Envelope],
    ) -> AppendResult:
        """Set and remove attributes; other attributes keep their values.

        Sessions can be listed and counted by their attributes.

        Args:
            session_id: The session.
            attributes: Mapping of name to any JSON value. The profile of the session's type, if any, validates them.
            remove: Names to remove.
            envelope: See ``Envelope``.

        Raises:
            SessionNotFound, SessionEnded, InvalidInput: As for ``add_query``.
        """
        return self._append(session_id, "attributes.updated", _named("attribute", attributes, remove), envelope)

    def register_profile(self, session_type: str, model: type[BaseModel]) -> None:
        """Register a pydantic model that validates the attributes of one type of sessions.

        The model applies only in this ledger object, and in views that are made from it later.

        Each attribute is validated by itself when it is set. The validators and serializers of the model's field and
        the model's configuration determine the value that is recorded. ``model_validator`` does not run, because it
        needs several fields. Listing or counting sessions of the type by an attribute that the model does not have
        raises ``InvalidInput``. Values recorded before are not validated.

        Args:
            session_type: The type of the sessions, 1 to 255 characters.
            model: A pydantic model whose fields are the attributes.

        Raises:
            ConfigurationError: ``model`` is not a pydantic model with fields, or one of its types is undefined.
        """
        from ledger.model.profiles import Profile

        self._profiles[check_text(session_type, "session_type")] = Profile(session_type, model)

    def add_tags(self, session_id: str, *tags: str, **envelope: Unpack[Envelope]) -> AppendResult:
        """Add tags to a session. Works on closed sessions too.

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: A tag is not a text of 1 to 255 characters.
        """
        changes = [Change("tag", tag, True) for tag in _distinct(tags)]
        return self._append(session_id, "tags.updated", changes, envelope, require_open=False)

    def remove_tags(self, session_id: str, *tags: str, **envelope: Unpack[Envelope]) -> AppendResult:
        """Remove tags from a session; tags that it does not have are ignored. Works on closed sessions too.

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: A tag is not a text of 1 to 255 characters.
        """
        changes = [Change("tag", tag, removed=True) for tag in _distinct(tags)]
        return self._append(session_id, "tags.updated", changes, envelope, require_open=False)

    def add_score(
        self,
        session_id: str,
        name: str,
        value: Any,
        *,
        source: str | None = None,
        comment: str | None = None,
        score_id: str | None = None,
        **envelope: Unpack[Envelope],
    ) -> AppendResult:
        """Add a score to a session. Works on closed sessions too.

        Args:
            session_id: The session.
            name: The name of the score, for example ``helpfulness``.
            value: A number, a boolean or text. A Decimal is recorded as a number: an int if it is whole, else a float.
                Any other value counts in its usual JSON form.
            source: The person or program that gave the score.
            comment: A text.
            score_id: Your own id, 1 to 255 characters; the event_id if None. An existing score with this id is
                replaced.
            envelope: See ``Envelope``.

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: ``value`` is none of these, or another argument cannot be recorded.
        """
        optional = {"source": source, "comment": comment}
        event_id = self._event_id(session_id, envelope)
        key = event_id if score_id is None else score_id
        value = self._number(value)
        _check_score(value, f"{named('score', str(key))}.value")
        score = {"name": check_text(name, "name"), "value": value}
        score |= {part: text for part, text in optional.items() if text is not None}
        change = Change("score", key, score)
        return self._append(session_id, "score.added", [change], envelope, event_id=event_id, require_open=False)

    def _number(self, value: Any) -> Any:
        """Return a finite Decimal as a number, unless values are strict; any other value as it is."""
        if self._strict_values or not isinstance(value, Decimal) or not value.is_finite():
            return value
        return int(value) if abs(value) < 2**63 and value == value.to_integral_value() else float(value)


def _check_part(part: str, tokens: Any, whole: str, all_tokens: Any) -> None:
    """Raise InvalidInput if a call has more tokens of one kind than of all. The store refuses other types."""
    if isinstance(tokens, int) and isinstance(all_tokens, int) and 0 <= all_tokens < tokens < 2**63:
        raise InvalidInput(
            f"{part} is {tokens:,}, and {whole}, which counts them too, is {all_tokens:,}; nothing was written. If the "
            "provider counts them apart, record the sum of both."
        )


def _check_score(value: Any, where: str) -> None:
    """Raise InvalidInput unless the JSON form of a value is a number, a boolean or text."""
    form = json_form(value, where)
    if form is None and value is not None:
        raise InvalidInput(f"{where} is the {full_name(value)} {value}, a missing value; nothing was written.")
    if not isinstance(form, str | int | float):
        raise InvalidInput(f"{where} must be a number, a boolean or text, not {full_name(value)}; nothing was written.")


def _distinct(tags: Iterable[str]) -> Iterable[str]:
    """Return the tags without duplicates.

    Raises:
        InvalidInput: A tag is not valid text, for example because a list of tags was given as one argument.
    """
    return dict.fromkeys(check_text(tag, "tag") for tag in tags)


def _named(field: str, values: Mapping[str, Any], remove: Iterable[str]) -> list[Change]:
    if not isinstance(values, Mapping):
        raise InvalidInput(f"{field} must be an object of name to value, not {full_name(values)}.")
    if isinstance(remove, str):
        raise InvalidInput(f"remove must be a list of names, not the text {remove[:70]!r}.")
    if not isinstance(remove, Iterable):
        raise InvalidInput(f"remove must be a list of names, not {full_name(remove)}; nothing was written.")
    return [
        *(Change(field, name, value, value is None) for name, value in values.items()),
        *(Change(field, name, removed=True) for name in remove),
    ]
