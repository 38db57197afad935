"""How pydantic and FastAPI take what the ledger hands out: as it is, and written as its ``to_dict()``."""

from __future__ import annotations

from typing import Any


class DictForm:
    """Base of classes with a ``to_dict``: as declared types, pydantic and FastAPI write them as that dictionary."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the object as a JSON object."""
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Return the schema by which pydantic and FastAPI take an object as it is, and write it as ``to_dict``."""
        from pydantic_core import core_schema as schema

        form = schema.plain_serializer_function_ser_schema(cls.to_dict, return_schema=schema.dict_schema())
        return schema.is_instance_schema(cls, serialization=form)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> Any:
        """Return the JSON schema of what is written; there is none of what is read, which is no JSON."""
        from ledger.model.json_schemas import schema_of

        return schema_of(cls.__name__) if handler.mode == "serialization" else handler(core)


def list_form(kind: type[list[Any]], source: Any, handler: Any) -> Any:
    """Return the schema by which pydantic and FastAPI take a list of class ``kind`` as it is, and write it as a list.

    Args:
        kind: A generic class derived from list.
        source: The class, or the class with the type of its items, as ``Page[Session]``.
        handler: What pydantic passes to ``__get_pydantic_core_schema__``.
    """
    from pydantic_core import core_schema as schema

    declared = [handler.generate_schema(item) for item in getattr(source, "__args__", ())]
    write, items = (list, declared[0]) if declared else (_dictionaries, schema.any_schema())
    form = schema.plain_serializer_function_ser_schema(write, return_schema=schema.list_schema(items))
    return schema.is_instance_schema(kind, serialization=form)


def _dictionaries(items: list[Any]) -> list[Any]:
    """Return the items of a list whose type declares none."""
    return [item.to_dict() if isinstance(item, DictForm) else item for item in items]
