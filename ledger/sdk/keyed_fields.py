"""Methods that write keyed fields: queries, context, results, attributes and their profiles, tags and scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Unpack

from ledger.errors import InvalidInput
from ledger.model.events import AppendResult, Change, Envelope
from ledger.model.values import check_text
from ledger.sdk.command_base import CommandBase

if TYPE_CHECKING:
    from pydantic import BaseModel


class KeyedFields(CommandBase):
    """Writes of keyed fields: each is one event, with one change per key."""

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
        """Record a query that was made for a session; see ``Session.query_statistics``.

        Args:
            query_type: What kind it was: ``price``.
            parameters: What it was asked with.
            result_summary: What came out, in short.
            cache_hit: Whether the answer was there already.
            execution_time_ms: Milliseconds.
            query_id: Your own id; the event's where None. A query with this id is replaced.
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

    def update_context(
        self,
        session_id: str,
        context: Mapping[str, Any],
        *,
        remove: Iterable[str] = (),
        **envelope: Unpack[Envelope],
    ) -> AppendResult:
        """Merge names into the context; the others stay as they are.

        Args:
            context: Name to any JSON; a name that is there gets the new value, whole.
            remove: Names to take away.
        """
        return self._append(session_id, "context.updated", _named("context", context, remove), envelope)

    def set_results(
        self, session_id: str, results: Mapping[str, Any], *, remove: Iterable[str] = (), **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Keep intermediate results by name; the others stay as they are.

        Args:
            results: Name to any JSON.
            remove: Names to take away.
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
        """Set attributes, by which sessions are listed and grouped; the others stay as they are.

        Args:
            attributes: Name to any JSON.
            remove: Names to take away.
        """
        return self._append(session_id, "attributes.updated", _named("attribute", attributes, remove), envelope)

    def register_profile(self, session_type: str, model: type[BaseModel]) -> None:
        """Have the attributes of sessions of a type checked by a model, from now on and by this ledger alone.

        Each attribute is checked by itself when it is set, and kept as the model's field has it, its validators, its
        serializers and the model's configuration included; ``model_validator``, which looks at several, is not asked.
        In lists and counts an attribute that the model does not have is a mistake. What is recorded already stays as it
        is.

        Args:
            session_type: Of the sessions.
            model: A pydantic model whose fields are the attributes.

        Raises:
            ConfigurationError: It is no pydantic model with fields, or names a type that is not there.
        """
        from ledger.model.profiles import Profile

        self._profiles[check_text(session_type, "session_type")] = Profile(session_type, model)

    def add_tags(self, session_id: str, *tags: str, **envelope: Unpack[Envelope]) -> AppendResult:
        """Tag a session, whether or not it has ended."""
        changes = [Change("tag", tag, True) for tag in _distinct(tags)]
        return self._append(session_id, "tags.updated", changes, envelope, require_open=False)

    def remove_tags(self, session_id: str, *tags: str, **envelope: Unpack[Envelope]) -> AppendResult:
        """Take tags off a session, whether or not it has ended; one that it does not have is no mistake."""
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
        """Judge a session, whether or not it has ended.

        Args:
            name: What is judged: ``helpfulness``.
            value: A number, true or false, or text.
            source: Who judges.
            score_id: Your own id; the event's where None. A score with this id is replaced.
        """
        optional = {"source": source, "comment": comment}
        score = {"name": check_text(name, "name"), "value": value}
        score |= {part: text for part, text in optional.items() if text is not None}
        event_id = self._event_id(session_id, envelope)
        change = Change("score", event_id if score_id is None else score_id, score)
        return self._append(session_id, "score.added", [change], envelope, event_id=event_id, require_open=False)


def _distinct(tags: Iterable[str]) -> Iterable[str]:
    """Tags, each once; what is no tag, such as a list of them, is refused before it is looked for among the others."""
    return dict.fromkeys(check_text(tag, "tag") for tag in tags)


def _named(field: str, values: Mapping[str, Any], remove: Iterable[str]) -> list[Change]:
    if not isinstance(values, Mapping):
        raise InvalidInput(f"{field} must be an object of name to value, not {type(values).__name__}.")
    if isinstance(remove, str):
        raise InvalidInput(f"remove must be a list of names, not the text {remove[:70]!r}.")
    if not isinstance(remove, Iterable):
        raise InvalidInput(f"remove must be a list of names, not {type(remove).__name__}; nothing was written.")
    return [
        *(Change(field, name, value) for name, value in values.items()),
        *(Change(field, name, removed=True) for name in remove),
    ]
