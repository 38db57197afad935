"""Refuse arguments of types that GoogleSQL refuses and DuckDB converts, as far as that costs little.

Each public function is a step of ``ledger.warehouse.duckdb.dialect``: it changes a parsed GoogleSQL tree in place. A
syntax tree has no types, so most of them are asked of DuckDB by TYPEOF, which DuckDB replaces by a constant.

Source: BigQuery's reference of aggregate and string functions, and of conversion rules, "Supertypes".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from ledger.errors import InvalidInput
from ledger.warehouse.duckdb.functions import innermost_first
from ledger.warehouse.duckdb.translations import fill

_IS_NUMBER = (
    "TYPEOF(_1) IN ('BOOLEAN', 'TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT', 'HUGEINT', 'DOUBLE') "
    "OR TYPEOF(_1) LIKE 'DECIMAL(%)'"
)
_LENGTHS = ("BYTE_LENGTH", "OCTET_LENGTH")


def sums(tree: exp.Expr) -> None:
    """Make SUM of a BOOL fail; DuckDB counts the TRUEs."""
    for call in innermost_first(tree, exp.Sum):
        value = call.this.expressions[0] if isinstance(call.this, exp.Distinct) else call.this
        if isinstance(value.unnest(), exp.Predicate | exp.Connector | exp.Not | exp.Boolean):
            raise InvalidInput("SUM takes numbers, not a BOOL; write COUNTIF(condition).")
        if isinstance(value.unnest(), exp.Column):
            error = "SUM takes numbers, not a BOOL; write COUNTIF(x)"
            value.replace(fill(f"CASE WHEN TYPEOF(_1) = 'BOOLEAN' THEN ERROR('{error}') ELSE _1 END", value))


def lengths(tree: exp.Expr) -> None:
    """Make LENGTH and BYTE_LENGTH of a number, BOOL, date or time fail; DuckDB takes its text."""
    for call in innermost_first(tree, exp.Length, exp.Anonymous):
        if isinstance(call, exp.Anonymous) and (call.name.upper() not in _LENGTHS or len(call.expressions) != 1):
            continue
        value = call.this if isinstance(call, exp.Length) else call.expressions[0]
        if not isinstance(value.unnest(), exp.Column | exp.Dot):
            continue
        name = "LENGTH" if isinstance(call, exp.Length) else call.name.upper()
        of_time = "TYPEOF(_1) IN ('DATE', 'TIME', 'TIMESTAMP')"
        error = f"ERROR('{name} takes a STRING or BYTES; use CAST(x AS STRING)')"
        value.replace(fill(f"CASE WHEN {_IS_NUMBER} OR {of_time} THEN {error} ELSE _1 END", value))


def mixtures(tree: exp.Expr) -> None:
    """Make COALESCE, IF and CASE of a number and a literal text fail; DuckDB would convert the text."""
    for results in list(_results(tree)):
        if not any(isinstance(it.unnest(), exp.Literal) and it.unnest().is_string for it in results):
            continue
        for value in results:
            bare = value.unnest()
            if isinstance(bare, exp.Literal) and not bare.is_string:
                raise InvalidInput(
                    f"{bare.name} is a number, and stands beside a text; write '{bare.name}' or cast it."
                )
            if isinstance(bare, exp.Column):
                error = "A number or BOOL stands beside a text in COALESCE, IF or CASE; cast one of them"
                value.replace(fill(f"CASE WHEN {_IS_NUMBER} THEN ERROR('{error}') ELSE _1 END", value))


def _results(tree: exp.Expr) -> Iterator[list[exp.Expr]]:
    """Yield the arguments of each call that are brought to one type."""
    for node in tree.find_all(exp.Coalesce, exp.If, exp.Case):
        if isinstance(node, exp.Coalesce):
            yield [node.this, *node.expressions]
        elif isinstance(node, exp.Case):
            yield [it for it in (*(it.args["true"] for it in node.args["ifs"]), node.args.get("default")) if it]
        elif not isinstance(node.parent, exp.Case):
            yield [it for it in (node.args.get("true"), node.args.get("false")) if it is not None]
