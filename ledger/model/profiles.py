"""Profiles: what the attributes of sessions of one type may be, as a pydantic model says."""

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
from ledger.model.values import canonical, check_text


class Profile:
    """The attributes that sessions of a type may have; each is checked by itself, whenever it is set.

    What the model says of a field holds: type, constraints, validators and serializers, and the configuration
    (``strict``, ``str_strip_whitespace`` ...). What it says of several is not asked, since attributes come in any order
    over the life of a session: whether a required one is there, ``model_validator`` and ``model_serializer``; and a
    field's validator finds no other in ``info.data``. Nor are aliases, ``frozen`` and ``exclude``, which are not about
    values. A set is kept as a sorted list, the same in every process; what a plain serializer of the field makes of one
    is kept as it is.

    Args:
        session_type: Of the sessions.
        model: Its fields are the attributes; with ``extra="allow"`` any others are let through.

    Raises:
        ConfigurationError: It is no pydantic model with fields, or names a type that is not there.
    """

    def __init__(self, session_type: str, model: type[BaseModel]) -> None:
        fit = isinstance(model, type) and issubclass(model, BaseModel) and not issubclass(model, RootModel)
        if not fit or model is BaseModel:
            raise ConfigurationError(f"A profile is a pydantic model with fields, not {model!r}.")
        self._session_type = session_type
        self._open = model.model_config.get("extra") == "allow"
        try:
            self._model = _field_by_field(model)
        except (PydanticUserError, NameError, TypeError) as error:
            raise ConfigurationError(
                f"No profile of {session_type} sessions can be made of {model.__name__}: "
                f"{getattr(error, 'message', error)}. Complete the model before it is registered."
            ) from error
        self._ordered_by_model = {name for name in model.model_fields if _has_plain_serializer(model, name)}

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
        if not self.has(name):
            return value
        alone = self._model.model_construct()
        try:
            self._model.__pydantic_validator__.validate_assignment(alone, name, value)
            # BaseModel's own: a model's may add to what is dumped.
            dumped = BaseModel.model_dump(alone, mode="json", include={name}, by_alias=False, warnings=False)[name]
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)
            raise self._unfit(name, "; ".join(str(each["msg"]) for each in found)) from error
        except Exception as error:  # the model's validators and serializers may raise anything
            raise self._unfit(name, f"{type(error).__name__}: {error}") from error
        return dumped if name in self._ordered_by_model else _ordered(vars(alone)[name], dumped)

    def has(self, name: str) -> bool:
        """Whether the model says what an attribute is; False where any value is let through.

        Raises:
            InvalidInput: There is no such attribute; the message names those there are.
        """
        known = self._model.model_fields
        if check_text(name, "key of attribute") not in known and not self._open:
            raise InvalidInput(
                f"{self._session_type} sessions have no attribute {name!r}; they have {', '.join(known) or 'none'}."
            )
        return name in known

    def criteria(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes to look for, as they stand in sessions."""
        return {name: self.value(name, value) for name, value in attributes.items()}

    def _unfit(self, name: str, wrong: str) -> InvalidInput:
        return InvalidInput(f"attribute {name} of {self._session_type} sessions: {wrong.removesuffix('.')}.")


class _Quiet(BaseModel):
    """Comes before a model among the bases: what it does with its subclasses and its instances is not done."""

    def __init_subclass__(cls, **given: Any) -> None:
        pass

    @classmethod
    def __pydantic_init_subclass__(cls, **given: Any) -> None:
        pass

    def model_post_init(self, context: Any, /) -> None:
        pass


def _field_by_field(model: type[BaseModel]) -> type[BaseModel]:
    """A model of the same fields, any of which can be set and dumped while the others are not there."""
    model.model_rebuild()  # a type that was named before it was there may be there by now
    several = model.__pydantic_decorators__
    # One of the same name takes the place of another.
    passing: dict[str, Any] = {
        **dict.fromkeys(several.model_validators, model_validator(mode="after")(_validated)),
        **dict.fromkeys(several.model_serializers, model_serializer(mode="wrap")(_serialized)),
    }
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        # A field made anew is without alias, default, frozen and exclude.
        fields[name] = (
            Annotated[kind, *field.metadata] if field.metadata else kind,
            Field(discriminator=field.discriminator),
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names, as when the model was made
        made: type[BaseModel] = create_model(
            model.__name__,
            __base__=(_Quiet, model),
            __cls_kwargs__={"frozen": False},
            __validators__=passing,
            **fields,
        )
    made.model_rebuild()
    made.model_construct()  # an abstract one is refused here
    return made


def _validated(self: Any) -> Any:
    return self


def _serialized(self: Any, handler: Any) -> Any:
    return handler(self)


def _has_plain_serializer(model: type[BaseModel], name: str) -> bool:
    """Whether the model says by itself, whole, what becomes of a field's value."""
    return any(isinstance(each, PlainSerializer) for each in model.model_fields[name].metadata) or any(
        each.info.mode == "plain" and not {name, "*"}.isdisjoint(each.info.fields)
        for each in model.__pydantic_decorators__.field_serializers.values()
    )


def _ordered(value: Any, dumped: Any) -> Any:
    """What a value was dumped as, sorted where it was a set: the order of one differs from process to process."""
    if isinstance(dumped, list) and isinstance(value, Collection) and len(value) == len(dumped):
        items = [_ordered(*pair) for pair in zip(value, dumped, strict=True)]
        return sorted(items, key=_rank) if isinstance(value, set | frozenset) else items
    if isinstance(dumped, dict):
        same = isinstance(value, Mapping) and len(value) == len(dumped)
        parts = value.values() if same else [getattr(value, key, None) for key in dumped]
        return {key: _ordered(part, dumped[key]) for key, part in zip(dumped, parts, strict=True)}
    return dumped


def _rank(item: Any) -> tuple[bool, float, str]:
    """Numbers first and by their size, then the rest by its text."""
    number = isinstance(item, int | float)
    return not number, item if number else 0, canonical(item)
