"""Profiles: what the attributes of sessions of one type may be, as a pydantic model says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from ledger.errors import ConfigurationError, InvalidInput
from ledger.model.events import Change

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


class Profile:
    """The attributes that sessions of a type may have; each is checked by itself, whenever it is set.

    Whether a required one is there is not asked: attributes come in any order, over the life of a session.

    Args:
        session_type: Of the sessions.
        model: Its fields are the attributes; with ``extra="allow"`` any others are let through.

    Raises:
        ConfigurationError: It is no pydantic model.
    """

    def __init__(self, session_type: str, model: type[BaseModel]) -> None:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise ConfigurationError(f"A profile is a pydantic model, not {model!r}.")
        self._session_type = session_type
        self._open = model.model_config.get("extra") == "allow"
        self._adapters = {name: _adapter(field) for name, field in model.model_fields.items()}

    def fit(self, change: Change) -> Change:
        """A change with its value as the profile has it; one of anything but an attribute is left alone.

        Raises:
            InvalidInput: There is no such attribute, or this is no value of it.
        """
        if change.field != "attribute" or change.removed:
            return change
        return replace(change, value=self.value(change.key, change.value))

    def value(self, name: str, value: Any) -> Any:
        """The value of an attribute as JSON holds it.

        Raises:
            InvalidInput: There is no such attribute, or this is no value of it.
        """
        adapter = self.adapter(name)
        if adapter is None:
            return value
        try:
            return adapter.dump_python(adapter.validate_python(value), mode="json")
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)
            wrong = "; ".join(str(each["msg"]) for each in found)
            raise InvalidInput(f"attribute {name} of {self._session_type} sessions: {wrong}.") from error

    def adapter(self, name: str) -> TypeAdapter[Any] | None:
        """What checks an attribute; None where any value is let through.

        Raises:
            InvalidInput: There is no such attribute; the message names those there are.
        """
        adapter = self._adapters.get(name)
        if adapter is None and not self._open:
            known = ", ".join(self._adapters)
            raise InvalidInput(f"{self._session_type} sessions have no attribute {name!r}; they have {known}.")
        return adapter

    def criteria(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes to look for, as they stand in sessions."""
        return {name: self.value(name, value) for name, value in attributes.items()}


def _adapter(field: FieldInfo) -> TypeAdapter[Any]:
    kind: Any = field.annotation
    return TypeAdapter(Annotated[kind, field] if field.metadata else kind)
