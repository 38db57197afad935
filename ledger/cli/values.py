"""How values are written on the command line.

A VALUE is text, exactly as typed: ``1.0`` is three characters and ``true`` a word. It is read as JSON with
--json-value, and for the fields that can hold nothing else (constraints, response_plan, error, tag ...). ``NAME=TEXT``
and ``NAME:=JSON`` say the same where a name comes with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from ledger.errors import InvalidInput
from ledger.model.fields import field_named


def parse_value(field: str, text: str, *, as_json: bool) -> Any:
    """The value of a field as typed.

    Raises:
        InvalidInput: The field is unknown, or needs JSON and the text is none.
    """
    return parse_json(text, field) if as_json or holds_only_json(field) else text


def holds_only_json(field: str) -> bool:
    """Whether no value of this field can be text.

    Raises:
        InvalidInput: There is no such field.
    """
    shape = field_named(field).shape
    return shape in ("object", "true") or shape.startswith("{")


def decode_text(content: bytes, name: str) -> str:
    """The text of a file.

    Raises:
        InvalidInput: It is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} must be UTF-8 text: {error.reason} at byte {error.start}.") from error


def parse_json(text: str, name: str) -> Any:
    """The value of a JSON text.

    Raises:
        InvalidInput: It is none; the message shows how to write JSON on a command line.
    """
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise InvalidInput(
            f"{name} must be JSON, and this is none: {error}. Quote it for the shell, for example '{{\"kpi\": [1]}}'."
        ) from error


def parse_pairs(pairs: Iterable[str], name: str) -> dict[str, Any]:
    """``NAME=TEXT`` and ``NAME:=JSON`` as a mapping.

    Raises:
        InvalidInput: One of them is neither.
    """
    found = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key.rstrip(":"):
            raise InvalidInput(f"{name} must be NAME=TEXT or NAME:=JSON, not {pair[:70]!r}.")
        found[key.removesuffix(":")] = parse_json(text, key[:-1]) if key.endswith(":") else text
    return found
