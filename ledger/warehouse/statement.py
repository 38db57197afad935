"""Check a user's statement and its parameters. The checks are the same for every warehouse.

Importing this module imports SQLGlot, so a warehouse imports it only on first use.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any, cast

import sqlglot
from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery

from ledger.errors import InvalidInput
from ledger.model.instants import to_micros
from ledger.model.values import full_name
from ledger.warehouse import catalog
from ledger.warehouse.base import Parameters
from ledger.warehouse.library_values import plain_value
from ledger.warehouse.syntax import syntax_error

# SQLGlot raises what it logs; without a handler Python would also print it to stderr.
logging.getLogger("sqlglot").addHandler(logging.NullHandler())

#: Types of parameters, and of the items of lists. Subclasses, such as those of Enum, are refused.
_TYPES = (bool, int, float, str, bytes, Decimal, datetime, date, time)
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like)
_SYSTEM_SCHEMA = "INFORMATION_SCHEMA."
_SCHEMA_VIEWS = ("INFORMATION_SCHEMA.TABLES", "INFORMATION_SCHEMA.COLUMNS")
_UNKNOWN = exp.cast(exp.null(), "BOOLEAN")
_SMALLEST, _BEYOND = -(2**63), 2**63


def check_query(sql: str, dialect: type[BigQuery] = BigQuery) -> exp.Query:
    """Parse one GoogleSQL SELECT and return its syntax tree. A comment may follow the final semicolon.

    Args:
        sql: The statement.
        dialect: SQLGlot's dialect, or one derived from it.

    Raises:
        InvalidInput: The statement cannot be parsed, is not a single statement, or is not a SELECT.
    """
    if not isinstance(sql, str):
        raise InvalidInput(f"The statement is a {full_name(sql)}; pass one SELECT statement as text.")
    _check_unicode(sql, "The statement")
    bound = catalog.bind(sql)
    try:
        parsed = sqlglot.parse(bound, dialect=dialect)
        trees = [tree for tree in parsed if tree is not None and not isinstance(tree, exp.Semicolon)]
    except sqlglot.errors.SqlglotError as error:
        raise syntax_error(bound, error) from error
    except RecursionError as error:
        raise InvalidInput("The statement is nested too deeply.") from error
    except (AttributeError, TypeError, KeyError, IndexError) as error:  # SQLGlot fails on the statement
        raise InvalidInput("The statement is not one that can be parsed; check its clauses and their order.") from error
    if len(trees) != 1:
        raise InvalidInput(f"Pass one SELECT statement, not {len(trees)}.")
    (tree,) = trees
    if not isinstance(tree, exp.Query) or tree.find(exp.DML, exp.DDL, exp.Command, exp.Into) is not None:
        raise InvalidInput("Only SELECT is allowed; to write rows, append events to the ledger.")
    return tree


@lru_cache(maxsize=256)  # the ledger's own statements are few, and parsing one takes milliseconds
def check_columns(sql: str) -> Mapping[str, str]:
    """Check that a statement is a single SELECT whose columns have distinct names, and return its parameters.

    Returns:
        A mapping with an item for each ``@name`` parameter: from the name in lower case to the name as written.

    Raises:
        InvalidInput: The statement is not such a SELECT, or it has positional parameters.
    """
    tree = check_query(sql)
    _check_qualifiers(tree)
    _check_arguments(tree)
    names = [name.lower() for column in tree.selects if (name := column_name(column)) is not None]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInput(f"The answer has several columns named {', '.join(repeated)}; give each a name with AS.")
    if tree.find(exp.Placeholder) is not None:
        raise InvalidInput("The statement has a parameter without a name (?); name it, as in @user.")
    return {parameter.name.lower(): parameter.name for parameter in tree.find_all(exp.Parameter)}


def prepare(
    sql: str, parameters: Parameters | None, place: tuple[str, str] = ("ledger", "ledger")
) -> tuple[str, dict[str, Any]]:
    """Check a user's statement and its parameters; return both as they are sent to a warehouse.

    None and an empty list have no type of their own. They are written into the statement as ``NULL`` and ``[]``, which
    fit any type, and are not among the returned parameters. INFORMATION_SCHEMA.TABLES and .COLUMNS are replaced by the
    ledger's own schema, so that they answer alike in every warehouse.

    Args:
        sql: The statement.
        parameters: See ``Parameters``.
        place: Project and dataset, as INFORMATION_SCHEMA names them.

    Raises:
        InvalidInput: The statement is not a single SELECT, a parameter is missing or superfluous, or its value has a
            type that no parameter can have.
    """
    used = check_columns(sql)
    if parameters is not None and not isinstance(parameters, Mapping):
        raise InvalidInput(f"Parameters are a {full_name(parameters)}; pass a mapping of name to value.")
    values: dict[str, Any] = {}
    for name, value in (parameters or {}).items():
        if str(name).lower() in values:
            raise InvalidInput(f"The parameter {name} is given twice, because upper and lower case are the same.")
        values[str(name).lower()] = check_parameter(str(name), value)
    if missing := sorted(used.keys() - values.keys()):
        raise InvalidInput(f"The statement uses @{missing[0]}, and no parameter has this name; pass a value for it.")
    if superfluous := sorted(values.keys() - used.keys()):
        raise InvalidInput(f"The statement has no @{superfluous[0]}; remove that parameter, or correct its name.")
    _check_lists(sql, values)
    literals = {name: "NULL" if value is None else "[]" for name, value in values.items() if value in (None, [])}
    if literals:
        sql = _with_literals(sql, literals)
    if "information_schema" in sql.lower():
        sql = _with_schema(sql, place)
    return sql, {used[name]: value for name, value in values.items() if name not in literals}


def column_name(column: exp.Expr) -> str | None:
    """Return the name that BigQuery gives to a column of a SELECT: its alias, or the last name of a path.

    Every other column, such as a literal, a CAST or an element of an array, has none; neither has ``*``.
    """
    if isinstance(column, exp.Alias):
        return column.alias
    path = column.unnest()  # without parentheses
    last = path.this if isinstance(path, exp.Column) else path.expression if isinstance(path, exp.Dot) else None
    return last.name if isinstance(last, exp.Identifier) else None


def range_names(tree: exp.Query) -> set[str]:
    """Return the names, in lower case, that stand for the rows of a FROM clause and may qualify an array in another."""
    sources = [it for it in tree.find_all(exp.Table, exp.Subquery, exp.CTE, exp.Unnest) if not it.args.get("db")]
    columns = [name for unnest in tree.find_all(exp.Unnest) for name in unnest.alias_column_names]
    return {name.lower() for name in [*(it.alias_or_name for it in sources), *columns]}


def _check_qualifiers(tree: exp.Query) -> None:
    """Raise InvalidInput if a table, view or function has a qualifier. An array may have one: ``FROM t, t.list``."""
    names = range_names(tree)
    for table in tree.find_all(exp.Table):
        *qualifiers, name = ".".join(part.name for part in table.parts).split(".")
        if qualifiers and qualifiers[0].lower() not in names and not table.name.upper().startswith(_SYSTEM_SCHEMA):
            raise _qualified(".".join([*qualifiers, name]))


def _check_arguments(tree: exp.Query) -> None:
    """Raise InvalidInput if a table function of the ledger has another number of arguments than it has parameters."""
    from ledger.warehouse.schema import schema

    functions = {item.name: item for item in schema() if item.kind == "function"}
    defined = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        called = table.this if isinstance(table.this, exp.Anonymous) else None
        name = (table if called is None else called).name.lower()
        function = functions.get(name)
        if function is None or table.db or (called is None and name in defined):
            continue
        given = 0 if called is None else len(called.expressions)
        if given != len(function.parameters):
            raise InvalidInput(
                f"{function.call} takes {len(function.parameters)} arguments, not {given}; `ledger schema "
                f"{function.name}` says what each means."
            )


def _qualified(name: str) -> InvalidInput:
    return InvalidInput(
        f"`{name}` has a qualifier. A statement reads only the ledger, whose views, tables and functions are named "
        "without project and dataset; `ledger schema` lists them."
    )


def check_parameter(name: str, value: Any) -> Any:
    """Return a parameter's value as Python's; a tuple, a Series and an array are returned as a list.

    Raises:
        InvalidInput: No parameter can have this value. The message names the parameter.
    """
    remove = "remove it" if isinstance(value, list | tuple) else "remove it with dropna()"
    value = plain_value(value, f"The parameter {name}")
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        return _check_scalar(name, value)
    if value and all(isinstance(item, Mapping) for item in value):  # an array of STRUCTs
        if not value[0] or any(item.keys() != value[0].keys() for item in value):
            raise InvalidInput(f"The parameter {name} is a list of objects; give each the same keys, at least one.")
        return [{key: check_parameter(name, inner) for key, inner in item.items()} for item in value]
    value = [plain_value(item, f"The parameter {name}") for item in value]
    if any(item is None for item in value):
        raise InvalidInput(f"The parameter {name} is a list that contains None; {remove}.")
    items = [_check_scalar(name, item) for item in value]
    if any(isinstance(item, float) and math.isnan(item) for item in items):
        raise InvalidInput(f"The parameter {name} is a list that contains NaN, which equals nothing; {remove}.")
    types = {type(item) for item in items}
    if types == {int, float}:
        return [float(item) for item in items]
    if len(types) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in types))
        raise InvalidInput(f"The parameter {name} is a list of different types: {names}.")
    return items


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, without terminal colours."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    return plain.strip().split("\n")[0]


def _check_scalar(name: str, value: Any) -> Any:
    if type(value) not in _TYPES:
        raise InvalidInput(
            f"The parameter {name} is a {full_name(value)}; it must be text, a number, a Decimal, a boolean, bytes, a "
            "date, a time, a datetime, None, or a list of one of these. Pass JSON as text, and read it with "
            "PARSE_JSON(@name)."
        )
    if isinstance(value, datetime):
        to_micros(value, f"The parameter {name},")
    if isinstance(value, time) and value.tzinfo is not None:
        raise InvalidInput(f"The parameter {name}, {value.isoformat()}, has a time zone, which a TIME cannot have.")
    if isinstance(value, int) and not _SMALLEST <= value < _BEYOND:
        raise InvalidInput(f"The parameter {name} is an integer beyond 64 bits; pass it as a Decimal or as text.")
    if isinstance(value, Decimal) and not _is_numeric(value):
        raise InvalidInput(
            f"The parameter {name}, {value}, is no NUMERIC, which has up to 29 digits before the point and 9 after it; "
            "pass it as a float or as text."
        )
    if isinstance(value, str):
        _check_unicode(value, f"The parameter {name}")
    return value


def _check_unicode(text: str, name: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{name} has a lone surrogate, which UTF-8 lacks; remove it.") from error


def _is_numeric(value: Decimal) -> bool:
    """Return True if a NUMERIC, a DECIMAL(38, 9), has exactly this value."""
    if not value.is_finite():
        return False
    _, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits)).rstrip("0")
    places = -(cast("int", exponent) + len(digits) - len(text))
    return not text or (places <= 9 and value.adjusted() <= 28)


def _check_lists(sql: str, values: Mapping[str, Any]) -> None:
    """Raise InvalidInput if a list stands in the parentheses of an IN."""
    if not any(isinstance(value, list) for value in values.values()):
        return
    for condition in check_query(sql).find_all(exp.In):
        for item in condition.expressions:
            if isinstance(item, exp.Parameter) and isinstance(values.get(item.name.lower()), list):
                raise InvalidInput(f"The parameter {item.name} is a list; write IN UNNEST(@{item.name}) for IN (...).")


def _with_literals(sql: str, literals: Mapping[str, str]) -> str:
    """Return the statement with literals in place of parameters.

    BigQuery refuses NULL as an operand of a comparison, so a comparison with NULL is replaced by its result, and as an
    operand of ``||``, which takes a cast.
    """
    tree = check_query(sql)
    for parameter in list(tree.find_all(exp.Parameter)):
        literal = literals.get(parameter.name.lower())
        if literal is None:
            continue
        parent = parameter.parent
        if literal == "NULL" and isinstance(parent, _COMPARISONS):
            parent.replace(_UNKNOWN.copy())
        elif literal == "NULL" and isinstance(parent, exp.Between) and parameter.arg_key != "this":
            kept = exp.GTE if parameter.arg_key == "high" else exp.LTE
            bound = parent.args["low" if parameter.arg_key == "high" else "high"]
            parent.replace(exp.paren(exp.and_(_UNKNOWN.copy(), kept(this=parent.this, expression=bound))))
        elif literal == "NULL" and isinstance(parent, exp.DPipe):
            parameter.replace(exp.cast(exp.null(), "TEXT"))
        else:
            parameter.replace(exp.null() if literal == "NULL" else exp.Array(expressions=[]))
    return tree.sql(dialect="bigquery")


def _with_schema(sql: str, place: tuple[str, str]) -> str:
    """Return the statement with the ledger's schema in place of INFORMATION_SCHEMA.TABLES and .COLUMNS.

    Views with other names are left as they are.

    Raises:
        InvalidInput: The statement reads an INFORMATION_SCHEMA of another dataset.
    """
    tree = check_query(sql)
    for table in list(tree.find_all(exp.Table)):
        name = table.name.upper()
        if not name.startswith(_SYSTEM_SCHEMA):
            continue
        if table.db not in ("", place[1]) or table.catalog not in ("", place[0]):
            raise _qualified(".".join(part.name for part in table.parts))
        if name not in _SCHEMA_VIEWS:
            continue
        view = name.removeprefix("INFORMATION_SCHEMA.")
        rows = exp.Array(expressions=[_struct(row) for row in _schema_rows(view, place)])
        alias = table.alias if re.fullmatch(r"\w+", table.alias or "") else view
        selected = exp.select("*").from_(exp.Unnest(expressions=[rows])).subquery(alias)
        table.replace(selected)
    return tree.sql(dialect="bigquery")


def _schema_rows(view: str, place: tuple[str, str]) -> list[dict[str, str | int]]:
    """Return the rows of INFORMATION_SCHEMA.TABLES or .COLUMNS, with those columns that do not depend on the engine."""
    from ledger.warehouse.schema import schema

    rows: list[dict[str, str | int]] = []
    for item in schema():
        if item.kind == "function":
            continue
        start: dict[str, str | int] = {
            "table_catalog": place[0],
            "table_schema": place[1],
            "table_name": item.name,
        }
        if view == "TABLES":
            is_table = item.kind == "table"
            rows.append(start | {"table_type": "BASE TABLE" if is_table else "VIEW", "description": item.description})
            continue
        for position, column in enumerate(item.columns, 1):
            rows.append(
                start
                | {
                    "column_name": column.name,
                    "ordinal_position": position,
                    "is_nullable": "YES" if column.nullable else "NO",
                    "data_type": column.type,
                    "description": column.description,
                }
            )
    return rows


def _struct(row: Mapping[str, str | int]) -> exp.Expr:
    values = [exp.alias_(exp.convert(value), name) for name, value in row.items()]
    return exp.Struct(expressions=values)
