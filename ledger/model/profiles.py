"""Profiles: validation of the attributes of sessions of one type by a pydantic model."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    Field,
    PlainSerializer,
    PydanticUserError,
    RootModel,
    ValidationError,
    create_model,
    model_serializer,
    model_validator,
)

from ledger.errors import ConfigurationError, InvalidInput
from ledger.model.events import Change
from ledger.model.json_form import rank
from ledger.model.names import did_you_mean
from ledger.model.values import check_text


class Profile:
    """The attributes of sessions of one type, as a pydantic model.

    Each attribute is validated by itself when it is set.

    Rules for a single field apply: its type, constraints, validators and serializers, and the model's configuration
    (``strict``, ``str_strip_whitespace`` ...). Rules for several fields do not apply, because attributes are set in any
    order over the life of a session: no field is required, ``model_validator`` and ``model_serializer`` do not run, and
    ``info.data`` is empty in a field's validator. Aliases, ``frozen`` and ``exclude`` are ignored too.

    A set is recorded as a sorted list, so that all processes record the same. What a plain serializer returns is
    recorded as it is.

    Args:
        session_type: The type of the sessions.
        model: The model, whose fields are the attributes. With ``extra="allow"``, other attributes are accepted without
            validation.

    Raises:
        ConfigurationError: ``model`` is not a pydantic model with fields, or one of its types is undefined.
    """

    def __init__(self, session_type: str, model: type[BaseModel]) -> None:
        has_fields = isinstance(model, type) and issubclass(model, BaseModel) and not issubclass(model, RootModel)
        if not has_fields or model is BaseModel:
            raise ConfigurationError(f"A profile is a pydantic model with fields, not {model!r}.")
        self._session_type = session_type
        self._open = model.model_config.get("extra") == "allow"
        try:
            self._model = _field_by_field(model)
        except (PydanticUserError, NameError, TypeError) as error:
            raise ConfigurationError(
                f"{model.__name__} cannot be the profile of {session_type} sessions: "
                f"{getattr(error, 'message', error)}. Complete the model before registering it."
            ) from error
        self._ordered_by_model = {name for name in model.model_fields if _has_plain_serializer(model, name)}

    def fit(self, change: Change) -> Change:
        """Validate a change of an attribute, and return the change with the value to record.

        A change of another field, or a removal, is returned unchanged.

        Raises:
            InvalidInput: The profile has no such attribute, or refuses the value.
        """
        if change.field != "attribute" or change.removed:
            return change
        return replace(change, value=self.value(change.key, change.value))

    def value(self, name: str, value: Any) -> Any:
        """Validate an attribute's value and return the JSON value to record.

        If the model has no field for the attribute and allows others, the value is returned unchanged.

        Raises:
            InvalidInput: The profile has no such attribute, or refuses the value.
        """
        if not self.has(name):
            return value
        instance = self._model.model_construct()
        try:
            self._model.__pydantic_validator__.validate_assignment(instance, name, value)
            # BaseModel's method, because the model may override model_dump.
            dumped = BaseModel.model_dump(instance, mode="json", include={name}, by_alias=False, warnings=False)[name]
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False, include_context=False)
            raise self._refusal(name, "; ".join(str(each["msg"]) for each in errors)) from error
        except Exception as error:  # the model's validators and serializers may raise anything
            raise self._refusal(name, f"{type(error).__name__}: {error}") from error
        return dumped if name in self._ordered_by_model else _ordered(vars(instance)[name], dumped)

    def has(self, name: str) -> bool:
        """Return True if the model has a field for an attribute; False if it has none and allows other attributes.

        Raises:
            InvalidInput: The profile has no such attribute; the message lists its attributes.
        """
        fields = self._model.model_fields
        if check_text(name, "key of attribute") not in fields and not self._open:
            hint = did_you_mean(name, fields, f"They have {', '.join(fields) or 'none'}.")
            raise InvalidInput(f"{self._session_type} sessions have no attribute {name!r}. {hint}")
        return name in fields

    def criteria(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Validate the values of attribute criteria, and return the criteria with the values as they are recorded."""
        return {name: self.value(name, value) for name, value in attributes.items()}

    def _refusal(self, name: str, reason: str) -> InvalidInput:
        return InvalidInput(f"attribute {name} of {self._session_type} sessions: {reason.removesuffix('.')}.")


class _Quiet(BaseModel):
    """Base class that disables the functions that a model calls when it is subclassed or instantiated.

    A class must list it before the model among its bases.
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        pass

    @classmethod
    def __pydantic_init_subclass__(cls, **arguments: Any) -> None:
        pass

    def model_post_init(self, context: Any, /) -> None:
        pass


def _field_by_field(model: type[BaseModel]) -> type[BaseModel]:
    """Return a model with the same fields, each of which can be set and dumped without the others."""
    model.model_rebuild()  # resolve types that were undefined when the model was created
    decorators = model.__pydantic_decorators__
    # A decorated function of the same name overrides the inherited one.
    overrides: dict[str, Any] = {
        **dict.fromkeys(decorators.model_validators, model_validator(mode="after")(_validated)),
        **dict.fromkeys(decorators.model_serializers, model_serializer(mode="wrap")(_serialized)),
    }
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        # A new field, without alias, default, frozen and exclude.
        fields[name] = (
            Annotated[kind, *field.metadata] if field.metadata else kind,
            Field(discriminator=field.discriminator),
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about field names, which the original model has raised already
        copied: type[BaseModel] = create_model(
            model.__name__,
            __base__=(_Quiet, model),
            __cls_kwargs__={"frozen": False},
            __validators__=overrides,
            **fields,
        )
    copied.model_rebuild()
    copied.model_construct()  # raises TypeError if the model is abstract
    return copied


def _validated(self: Any) -> Any:
    return self


def _serialized(self: Any, handler: Any) -> Any:
    return handler(self)


def _has_plain_serializer(model: type[BaseModel], name: str) -> bool:
    """Return True if the model has a plain serializer for a field. The serializer's result is recorded unchanged."""
    return any(isinstance(each, PlainSerializer) for each in model.model_fields[name].metadata) or any(
        each.info.mode == "plain" and not {name, "*"}.isdisjoint(each.info.fields)
        for each in model.__pydantic_decorators__.field_serializers.values()
    )


def _ordered(value: Any, dumped: Any) -> Any:
    """Return ``dumped``, the JSON form of ``value``, with each list sorted that was a set in ``value``.

    Unsorted, the order of a set's items would differ between processes.
    """
    if isinstance(dumped, list) and isinstance(value, Collection) and len(value) == len(dumped):
        items = [_ordered(*pair) for pair in zip(value, dumped, strict=True)]
        return sorted(items, key=rank) if isinstance(value, set | frozenset) else items
    if isinstance(dumped, dict):
        same = isinstance(value, Mapping) and len(value) == len(dumped)
        parts = value.values() if same else [getattr(value, key, None) for key in dumped]
        return {key: _ordered(part, dumped[key]) for key, part in zip(dumped, parts, strict=True)}
    return dumped
