"""Google's own analyzer over a catalog made of the ledger's CREATE statements."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import wasmtime
from zetasql.api import Analyzer, CatalogBuilder, ConstantBuilder, Parser, PreparedQuery, TableBuilder, TVFBuilder
from zetasql.core import wasm_client
from zetasql.types import AnalyzerOptions, LanguageOptions, ZetaSQLBuiltinFunctionOptions

from ledger.warehouse import catalog
from ledger.warehouse.answer import Answer

#: Where the analyzer's machine code is kept: to compile it takes each process some twenty seconds.
COMPILED = Path(__file__).resolve().parents[2] / ".pytest_cache" / "wasmtime"
#: Statements that the analyzer cannot resolve though BigQuery can, by object name, and why. None so far.
ALLOWED: dict[str, str] = {}
#: Calls in statements that the analyzer lacks though BigQuery has them, by statement, and what is resolved instead, of
#: the same types: all else in the statement is resolved as it stands.
ALLOWED_CALLS: dict[str, dict[str, str]] = {
    "search_text": {"SEARCH(words, @terms)": "STARTS_WITH(words, @terms)"},  # a function of BigQuery's own
}


@cache
def keep_compiled() -> None:
    """Have the analyzer's package, which has no setting for it, keep what it compiles."""
    COMPILED.mkdir(parents=True, exist_ok=True)
    settings = COMPILED / "cache.toml"
    written = COMPILED / f"{os.getpid()}.toml"  # other workers may be reading the settings
    written.write_text(f'[cache]\ndirectory = "{COMPILED / "modules"}"\n', encoding="utf-8")
    written.replace(settings)

    def config() -> wasmtime.Config:
        made = wasmtime.Config()
        made.cache = str(settings)
        return made

    wasm_client.Config = config


class GoogleSql:
    """Resolves statements; what a table, view or function statement creates can be read by the next."""

    def __init__(self) -> None:
        keep_compiled()
        self._language = LanguageOptions.maximum_features()
        self._tables: list[Any] = []
        self._functions: list[Any] = []
        self._types: dict[str, Any] = {}

    def analyze(
        self, sql: str, parameters: Mapping[str, str] | None = None, variables: Mapping[str, str] | None = None
    ) -> Any:
        """The resolved statement; raises the analyzer's error where names or types do not fit.

        Args:
            parameters: GoogleSQL types of the ``@name`` parameters; there are no others.
            variables: Types of what a script declared before.
        """
        functions = ZetaSQLBuiltinFunctionOptions(language_options=self._language)
        builder = CatalogBuilder("ledger").with_builtin_functions(functions)
        for table in self._tables:
            builder.add_table(table)
        for function in self._functions:
            builder.add_table_valued_function(function)
        for name, text in (variables or {}).items():
            builder.add_constant(ConstantBuilder(name).set_type(self._type(text)).build())
        declared = [
            AnalyzerOptions.QueryParameter(name=name, type=self._type(text))
            for name, text in (parameters or {}).items()
        ]
        options = AnalyzerOptions(language_options=self._language, query_parameters=declared)
        return Analyzer(options, builder.build()).analyze_statement(sql)

    def texts(self, sql: str) -> list[str]:
        """What a query without tables answers, one column of text, by Google's reference implementation."""
        functions = ZetaSQLBuiltinFunctionOptions(language_options=self._language)
        builder: Any = PreparedQuery.builder().set_sql(sql)
        builder.set_analyzer_options(AnalyzerOptions(language_options=self._language, default_timezone="UTC"))
        builder.set_catalog(CatalogBuilder("answers").with_builtin_functions(functions).build())
        return [row.cell[0].string_value for row in builder.prepare().execute().content.table_data.row]

    def differences(
        self, query: Callable[[str], Answer], expressions: Sequence[str], row: str
    ) -> list[tuple[str, str, str]]:
        """The expressions of whose JSON another warehouse has another text, each with its text and the reference's.

        Args:
            query: The other warehouse's.
            expressions: All are columns of one statement.
            row: What the statement reads from: one row.
        """
        columns = [f"TO_JSON_STRING({expression})" for expression in expressions]
        (text,) = self.texts(f"SELECT TO_JSON_STRING([{', '.join(columns)}]) FROM {row}")
        listed = ", ".join(f"{column} AS c{n}" for n, column in enumerate(columns))
        found = query(f"SELECT {listed} FROM {row}").rows[0]
        return [each for each in zip(expressions, found, orjson.loads(text), strict=True) if each[1] != each[2]]

    def analyze_script(self, sql: str, parameters: Mapping[str, str]) -> list[Any]:
        """What the queries and changes of a script resolve to; the analyzer takes no script as a whole."""
        script = Parser(self._language).parse_script(sql)
        variables: dict[str, str] = {}
        return [
            self.analyze(piece, parameters, variables)
            for piece in _pieces(sql.encode(), script.statement_list_node, variables)
        ]

    def create(self, item: catalog.SqlObject) -> Any:
        """Resolve an object's statement and put what it creates into the catalog."""
        resolved = self.analyze(catalog.bind(item.source))
        if item.kind == "table":
            self._add(item.name, [(column.name, column.type) for column in resolved.column_definition_list])
        elif item.kind == "view":
            self._add(item.name, [(out.name, out.column.type) for out in resolved.output_column_list])
        else:
            builder = TVFBuilder(item.name)
            for name, argument in zip(resolved.argument_name_list, resolved.signature.argument, strict=True):
                builder.add_argument(name, argument.type)
            builder.set_output_schema([(out.name, out.column.type) for out in resolved.output_column_list])
            function = builder.build()
            for argument in function.signature.argument:
                argument.num_occurrences = 1  # which the builder leaves at none, and the analyzer ends the process for
            self._functions.append(function)
        return resolved

    def copy(self, name: str, other: str) -> None:
        """A table with the columns of one that is in the catalog."""
        columns = self.analyze(f"SELECT * FROM {name}").output_column_list
        self._add(other, [(out.name, out.column.type) for out in columns])

    def _add(self, name: str, columns: list[tuple[str, Any]]) -> None:
        builder = TableBuilder(name)
        for column, kind in columns:
            builder.add_column(column, kind)
        self._tables.append(builder.build())

    def _type(self, text: str) -> Any:
        """The type that GoogleSQL writes so."""
        if text not in self._types:
            self._types[text] = self.analyze(f"CREATE TABLE made_up (x {text})").column_definition_list[0].type
        return self._types[text]


def _pieces(script: bytes, statements: Any, variables: dict[str, str]) -> Iterator[str]:
    """The parts of a script that can be analyzed by themselves, in order; ``variables`` grows by what it declares."""
    for node in statements.statement_list:
        kind = type(node).__name__
        if kind == "ASTVariableDeclaration":
            if node.default_value is not None:
                yield f"SELECT {_text(script, node.default_value)}"
            for name in node.variable_list.identifier_list:
                variables[_text(script, name)] = _text(script, node.type)
        elif kind == "ASTSingleAssignment":
            yield f"SELECT {_text(script, node.expression)}"
        elif kind == "ASTIfStatement":
            assert node.elseif_clauses is None, "an ELSEIF would be passed over"
            yield f"SELECT 1 FROM UNNEST([1]) WHERE {_text(script, node.condition)}"
            for branch in (node.then_list, node.else_list):
                if branch is not None:
                    yield from _pieces(script, branch, variables)
        elif kind not in ("ASTBeginStatement", "ASTCommitStatement"):
            yield _text(script, node)


def _text(script: bytes, node: Any) -> str:
    place = node.parse_location_range
    return script[place.start : place.end].decode()
