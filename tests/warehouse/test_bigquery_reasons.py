"""Which errors of BigQuery pass is said in one module, and every set there is read."""

from __future__ import annotations

import ast
from pathlib import Path

import grpc

from ledger.warehouse.bigquery import reasons

ROOM = Path(reasons.__file__).parent
OTHERS = {
    path.name: ast.parse(path.read_text(encoding="utf-8")) for path in ROOM.glob("*.py") if path.name != "reasons.py"
}


def test_no_other_module_of_the_room_names_a_code_of_grpc() -> None:
    codes = {code.name for code in grpc.StatusCode}
    naming = {
        name
        for name, tree in OTHERS.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in codes)
        or (isinstance(node, ast.Constant) and node.value in codes)
    }
    assert naming == set()


def test_every_set_is_read_by_the_room() -> None:
    read = {
        node.attr
        for tree in OTHERS.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "reasons"
    }
    assert {name for name in vars(reasons) if name.isupper() and not name.startswith("_")} - read == set()


def test_codes_are_known_by_their_numbers() -> None:
    assert [reasons.code_of_number(number) for number in (3, 5, 99)] == [
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        None,
    ]
