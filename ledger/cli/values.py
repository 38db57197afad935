"""Parsing of values on the command line.

The argument VALUE is text, exactly as typed: ``1.0`` is a string of three characters. With the option --json-value, and
for fields that cannot hold text (constraints, response_plan, error, tag ...), VALUE is parsed as JSON. A named
value has the form ``NAME=TEXT`` for text, or ``NAME:=JSON`` for JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from ledger.errors import InvalidInput
from ledger.model.fields import field_named


def parse_value(field: str, text: str, *, as_json: bool) -> Any:
    """Return the value of a field as typed, or parsed as JSON if ``as_json`` is set or the field cannot hold text.

    Args:
        field: Name of the field.
        text: The value as typed.
        as_json: Parse the text as JSON, even for a field that can hold text.

    Raises:
        InvalidInput: The field does not exist, or the text had to be parsed as JSON and is not valid JSON.
    """
    return parse_json(text, field) if as_json or holds_only_json(field) else text


def holds_only_json(field: str) -> bool:
    """Return True if no value of the field can be a string. A value on the command line must then be JSON.

    Raises:
        InvalidInput: The field does not exist.
    """
    shape = field_named(field).shape
    return shape in ("object", "true") or shape.startswith("{")


def decode_text(content: bytes, name: str) -> str:
    """Return the content of a file as text. A byte order mark at its start is dropped.

    Args:
        content: The content.
        name: What the error message calls the content.

    Raises:
        InvalidInput: The content is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} must be UTF-8 text: {error.reason} at byte {error.start}.") from error


def parse_json(text: str, name: str) -> Any:
    """Return the value of a JSON text.

    Args:
        text: The text.
        name: What the error message calls the text.

    Raises:
        InvalidInput: The text is not JSON. The message also shows how to quote JSON for a shell.
    """
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise InvalidInput(
            f"{name} is not valid JSON: {error}. Quote it for the shell, for example '{{\"kpi\": [1]}}'."
        ) from error


def parse_pairs(pairs: Iterable[str], name: str) -> dict[str, Any]:
    """Parse ``NAME=TEXT`` and ``NAME:=JSON`` arguments into a dictionary with the names as keys.

    Args:
        pairs: The arguments.
        name: What the error message calls an argument that has neither form.

    Raises:
        InvalidInput: An argument has neither form, its JSON is not valid, or a name is given twice.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key.rstrip(":"):
            raise InvalidInput(f"{name} must be NAME=TEXT or NAME:=JSON, not {pair[:70]!r}.")
        known = key.removesuffix(":")
        if known in values:
            raise InvalidInput(f"{name} has {known} twice; give it once.")
        values[known] = parse_json(text, known) if key.endswith(":") else text
    return values
