"""Google's own analyzer over a catalog made of the ledger's CREATE statements."""

from __future__ import annotations

from typing import Any

from zetasql.api import Analyzer, CatalogBuilder, TableBuilder
from zetasql.types import AnalyzerOptions, LanguageOptions, ZetaSQLBuiltinFunctionOptions

from ledger.warehouse import catalog

#: Statements that the analyzer cannot resolve though BigQuery can, by object name, and why. None so far.
ALLOWED: dict[str, str] = {}


class GoogleSql:
    """Resolves statements; what a table or view statement creates can be read by the next."""

    def __init__(self) -> None:
        self._language = LanguageOptions.maximum_features()
        self._tables: list[Any] = []

    def analyze(self, sql: str) -> Any:
        """The resolved statement; raises the analyzer's error where names or types do not fit."""
        functions = ZetaSQLBuiltinFunctionOptions(language_options=self._language)
        builder = CatalogBuilder("ledger").with_builtin_functions(functions)
        for table in self._tables:
            builder.add_table(table)
        return Analyzer(AnalyzerOptions(language_options=self._language), builder.build()).analyze_statement(sql)

    def create(self, item: catalog.SqlObject) -> Any:
        """Resolve an object's statement and put what it creates into the catalog."""
        resolved = self.analyze(catalog.bind(item.source))
        if item.kind == "table":
            self._add(item.name, [(column.name, column.type) for column in resolved.column_definition_list])
        elif item.kind == "view":
            self._add(item.name, [(out.name, out.column.type) for out in resolved.output_column_list])
        return resolved

    def _add(self, name: str, columns: list[tuple[str, Any]]) -> None:
        builder = TableBuilder(name)
        for column, kind in columns:
            builder.add_column(column, kind)
        self._tables.append(builder.build())
