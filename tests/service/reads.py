"""Which tables a GoogleSQL statement reads, of which columns and days; `billing` turns that into bytes.

    for step in steps("SELECT value FROM `p.d.session_fields` WHERE created_at >= @from", Definitions()): step.reads

A script is split into its statements. Views and table functions are replaced by their text, so that what is found is
about the tables at the bottom. A column is read if the result depends on it; one that a view selects and nobody asks
for is not. A condition is passed down from a view to what it selects from if it compares one column with constants,
and the column is selected as it is, groups the rows if there are groups, and partitions each window if there are some.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sqlglot
from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery

from service.definitions import Definitions, Table, Unread, View, is_function, name_of
from service.scripts import split


@dataclass(frozen=True)
class Condition:
    """A condition on one column, which each `exp.Column` of the expression stands for; the rest of it is constant."""

    column: str
    expression: exp.Expr


@dataclass(frozen=True)
class Read:
    """A table that a statement reads.

    Attributes:
        table: ``project.dataset.table``.
        columns: Names of the columns that are read; None for all.
        conditions: What is known of the rows.
        is_changed: True for the table of UPDATE, DELETE or MERGE.
    """

    table: str
    columns: frozenset[str] | None
    conditions: tuple[Condition, ...]
    is_changed: bool = False


@dataclass(frozen=True)
class Step:
    """A statement of a script.

    Attributes:
        statement: The statement; None for the condition of an IF.
        reads: The tables that it reads.
        branches: For each IF around it, the condition, and True if it is in the part that runs if that holds.
    """

    statement: exp.Expr | None
    reads: tuple[Read, ...]
    branches: tuple[tuple[exp.Expr, bool], ...] = ()


def steps(sql: str, known: Definitions) -> list[Step]:
    """The statements of a script, and what each reads."""
    found: list[Step] = []
    for text, branches in split(sql):
        if is_function(text):
            continue
        tree = sqlglot.parse_one(text, dialect=BigQuery)
        reader = _Reader(known)
        is_condition = branches and branches[-1][0].meta.get("text") == text
        reader.statement(tree)
        if not isinstance(tree, exp.Declare) or reader.reads:
            kept = branches[:-1] if is_condition else branches
            found.append(Step(None if is_condition else tree, tuple(reader.reads), tuple(kept)))
    return found


@dataclass
class _Source:
    """Something in a FROM clause, and what the rest of the statement needs of it."""

    tree: exp.Expr
    names: list[str] | None  # None if they are not known
    needed: set[str] | None = field(default_factory=set)  # None for all
    conditions: list[Condition] = field(default_factory=list)

    def need(self, column: str) -> None:
        if self.needed is not None:
            self.needed.add(column)


#: The queries of WITH clauses, each with those that it can see itself.
_Named = Mapping[str, "tuple[exp.Query, _Named]"]


class _Reader:
    def __init__(self, known: Definitions) -> None:
        self._known = known
        self.reads: list[Read] = []

    def statement(self, tree: exp.Expr) -> None:
        """Add what a statement reads."""
        if isinstance(tree, exp.Query):
            self._query(tree, None, [], {})
        elif isinstance(tree, exp.Insert | exp.Create):
            if isinstance(tree.expression, exp.Query) and tree.args.get("kind") != "VIEW":
                self._query(tree.expression, None, [], {})
        elif isinstance(tree, exp.Update | exp.Delete | exp.Merge):
            self._change(tree)
        elif isinstance(tree, exp.Set | exp.Declare):
            for query in _outermost_queries(tree):
                self._query(query, None, [], {})

    def _change(self, tree: exp.Update | exp.Delete | exp.Merge) -> None:
        """Read what a statement needs to find rows of its table, and then all columns of the days of these rows."""
        select = exp.Select(expressions=[exp.Literal.number(1)]).from_(tree.this.copy())
        others = tree.args.get("from_") or tree.args.get("using")
        if isinstance(others, exp.From):
            others = others.this
        if isinstance(others, exp.Expr):
            on = tree.args.get("on")
            select = select.join(others.copy(), on=on.copy() if on is not None else None)
        if isinstance(where := tree.args.get("where"), exp.Where):
            select = select.where(where.this.copy())
        self._query(select, None, [], {})
        for part in (*tree.expressions, tree.args.get("whens")):
            for query in _outermost_queries(part) if isinstance(part, exp.Expr) else ():
                self._query(query, None, [], {})
        target = name_of(tree.this)
        place = next(index for index, read in enumerate(self.reads) if read.table == target)
        self.reads.append(replace(self.reads.pop(place), columns=None, is_changed=True))

    def names(self, query: exp.Expr, named: _Named | None = None) -> list[str]:
        """The names of a query's columns, as far as they are known."""
        named = {**(named or {}), **self._with(query, named or {})}
        if isinstance(query, exp.Subquery):
            return self.names(query.this, named)
        if isinstance(query, exp.SetOperation):
            return self.names(query.this, named)
        found: list[str] = []
        for item in query.selects if isinstance(query, exp.Query) else ():
            if _is_star(item):
                for alias, source in self._sources(query, named).items():
                    if not isinstance(item, exp.Column) or item.table == alias:
                        found += source.names or []
            else:
                found.append(item.alias_or_name)
        return found

    def _with(self, query: exp.Expr, named: _Named) -> _Named:
        found: dict[str, tuple[exp.Query, _Named]] = {}
        clause = query.args.get("with_")
        for cte in clause.expressions if isinstance(clause, exp.With) else ():
            found[cte.alias] = (cte.this, {**named, **found})
        return found

    def _query(
        self, query: exp.Query, needed: set[str] | None, given: Sequence[Condition], named: _Named
    ) -> set[exp.Column]:
        """Add what a query reads for these of its columns, under these conditions on them; return outer columns."""
        named = {**named, **self._with(query, named)}
        if isinstance(query, exp.Subquery):
            return self._query(query.this, needed, given, named)
        if isinstance(query, exp.SetOperation):
            here, there = self.names(query.left, named), self.names(query.right, named)
            other = dict(zip(here, there, strict=False))
            left = self._query(query.left, needed, given, named)
            needed = None if needed is None else {other.get(name, name) for name in needed}
            given = [Condition(other.get(it.column, it.column), it.expression) for it in given]
            return left | self._query(query.right, needed, given, named)
        if not isinstance(query, exp.Select):
            raise Unread(f"not a SELECT: {query!r}")
        return self._select(query, needed, given, named)

    def _select(
        self, select: exp.Select, needed: set[str] | None, given: Sequence[Condition], named: _Named
    ) -> set[exp.Column]:
        sources = self._sources(select, named)
        outer: set[exp.Column] = set()
        items = {item.alias_or_name: item for item in select.selects}
        if select.args.get("distinct"):
            needed = None
        used = [item for item in select.selects if needed is None or item.alias_or_name in needed or _is_star(item)]
        clauses = [select.args.get(name) for name in ("where", "group", "having", "qualify", "order")]
        clauses += select.args.get("windows") or []
        for part in (*used, *clauses, *(join.args.get("on") for join in select.args.get("joins") or ())):
            outer |= self._need(part, sources, items, needed, named)
        for join in select.args.get("joins") or ():
            for column in join.args.get("using") or ():
                for source in sources.values():
                    source.need(column.name)
        for source in sources.values():
            if isinstance(source.tree, exp.Unnest):
                outer |= self._need(source.tree, sources, items, needed, named)
        self._local_conditions(select, sources)
        for condition in given:
            column = items.get(condition.column)
            column = column.this if isinstance(column, exp.Alias) else column
            if column is None and any(_is_star(item) for item in select.selects):
                column = exp.column(condition.column)
            if isinstance(column, exp.Column) and self._passes(select, column):
                source = self._source_of(column, sources)
                if source is not None:
                    source.conditions.append(Condition(column.name, condition.expression))
        for source in sources.values():
            self._read(source, named)
        return outer

    def _need(
        self,
        part: exp.Expr | None,
        sources: Mapping[str, _Source],
        items: Mapping[str, exp.Expr],
        needed: set[str] | None,
        named: _Named,
    ) -> set[exp.Column]:
        """Note the columns that an expression needs of each source; return those that are of an outer query."""
        outer: set[exp.Column] = set()
        queries: list[exp.Query] = []
        for node in part.walk(prune=lambda it: isinstance(it, exp.Query)) if part is not None else ():
            if isinstance(node, exp.Query):
                queries.append(node)
            elif _is_star(node) and not isinstance(node.parent, exp.Count):
                for alias, source in sources.items():
                    if not isinstance(node, exp.Column) or node.table == alias:
                        source.needed = None if needed is None else (source.needed or set()) | needed
            elif isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
                source = self._source_of(node, sources)
                if source is not None:
                    source.need(node.name)
                elif node.name in items and not node.table and items[node.name] is not part:
                    outer |= self._need(items[node.name], sources, {}, needed, named)
                elif node.name not in sources and node.table not in sources:
                    outer.add(node)
        for query in queries:
            for column in self._query(query, None, [], named):
                source = self._source_of(column, sources)
                if source is not None:
                    source.need(column.name)
                else:
                    outer.add(column)
        return outer

    def _local_conditions(self, select: exp.Select, sources: Mapping[str, _Source]) -> None:
        """Give each source the conditions of WHERE and of its own ON that are about one of its columns alone."""
        where = select.args.get("where")
        parts = [(part, None) for part in _conjuncts(where.this)] if isinstance(where, exp.Where) else []
        for join in select.args.get("joins") or ():
            if (on := join.args.get("on")) is not None:
                side = None if not join.side else _alias_of(join.this)
                parts += [(part, side) for part in _conjuncts(on)]
        for part, only in parts:
            columns = list(part.find_all(exp.Column))
            if not columns or part.find(exp.Query) is not None:
                continue
            first = self._source_of(columns[0], sources)
            if first is None or (only is not None and sources.get(only) is not first):
                continue
            if all(it.name == columns[0].name and self._source_of(it, sources) is first for it in columns):
                first.conditions.append(Condition(columns[0].name, part))

    def _passes(self, select: exp.Select, column: exp.Column) -> bool:
        """True if a condition on this column can be checked before groups, windows and limits."""
        if select.args.get("limit") or select.args.get("offset"):
            return False
        group = select.args.get("group")
        if group is not None and not any(_is_same(column, key) for key in group.expressions):
            return False
        windows = [it for it in select.find_all(exp.Window) if it.find_ancestor(exp.Select) is select]
        return all(
            any(_is_same(column, key) for key in it.args.get("partition_by") or ())
            # A window of the WINDOW clause is among them by itself.
            for it in windows
            if it.args.get("partition_by") or not it.args.get("alias")
        )

    def _sources(self, select: exp.Query, named: _Named) -> dict[str, _Source]:
        found: dict[str, _Source] = {}
        start = select.args.get("from_")
        trees = [start.this] if isinstance(start, exp.From) else []
        trees += [join.this for join in select.args.get("joins") or ()]
        for tree in trees:
            if isinstance(tree, exp.Unnest):
                alias = tree.args.get("alias")
                names = [*tree.alias_column_names, *([alias.name] if alias is not None else [])]
                offset = tree.args.get("offset")
                if isinstance(offset, exp.Identifier):
                    names.append(offset.name)
                for name in filter(None, names):
                    found[name] = _Source(tree, [name])
            else:
                found[_alias_of(tree)] = _Source(tree, self._names_of(tree, named))
        return found

    def _names_of(self, tree: exp.Expr, named: _Named) -> list[str] | None:
        if isinstance(tree, exp.Subquery):
            return self.names(tree.this, named)
        name = name_of(tree)
        if name in named:
            return self.names(*named[name])
        found = self._known[name]
        if isinstance(found, Table):
            return list(found.types)
        return self.names(found.query) if found is not None else None

    def _source_of(self, column: exp.Column, sources: Mapping[str, _Source]) -> _Source | None:
        """The source that a column is of; None if it is of an outer query, a variable or another expression."""
        if column.table:
            return sources.get(column.table)
        for source in sources.values():
            if source.names is not None and column.name in source.names:
                return source
        unknown = [source for source in sources.values() if source.names is None]
        return unknown[0] if unknown else None

    def _read(self, source: _Source, named: _Named) -> None:
        tree = source.tree
        if isinstance(tree, exp.Subquery):
            self._query(tree.this, source.needed, source.conditions, named)
        if not isinstance(tree, exp.Table):
            return
        name = name_of(tree)
        if name in named:
            query, inner = named[name]
            self._query(query, source.needed, source.conditions, inner)
            return
        found = self._known[name]
        if isinstance(found, View):
            query = found.query.copy()
            given = dict(zip(found.arguments, tree.this.expressions, strict=True)) if found.arguments else {}
            for column in list(query.find_all(exp.Column)) if given else ():
                if not column.table and column.name in given:
                    column.replace(given[column.name].copy())
            self._in_dataset_of(name, query)
            self._query(query, source.needed, source.conditions, {})
        elif "INFORMATION_SCHEMA" not in name.upper():
            needed = None if source.needed is None else frozenset(source.needed)
            self.reads.append(Read(name, needed, tuple(source.conditions)))

    def _in_dataset_of(self, name: str, query: exp.Query) -> None:
        """Give the tables of one of the ledger's own views the dataset of the view."""
        place = [exp.to_identifier(part, quoted=True) for part in name.split(".")[:-1]]
        own = {cte.alias for cte in query.find_all(exp.CTE)}
        for table in query.find_all(exp.Table) if place else ():
            if isinstance(table.this, exp.Anonymous):
                if "." not in name_of(table):
                    table.this.set(
                        "this", exp.to_identifier(f"{name.rpartition('.')[0]}.{name_of(table)}", quoted=True)
                    )
            elif not table.db and table.name not in own:
                table.set("catalog", place[0].copy() if len(place) > 1 else None)
                table.set("db", place[-1].copy())


def _outermost_queries(tree: exp.Expr) -> Iterator[exp.Query]:
    for node in tree.walk(prune=lambda it: isinstance(it, exp.Query)):
        if isinstance(node, exp.Query):
            yield node


def _conjuncts(tree: exp.Expr) -> Iterator[exp.Expr]:
    if isinstance(tree, exp.And):
        yield from _conjuncts(tree.left)
        yield from _conjuncts(tree.right)
    elif isinstance(tree, exp.Paren):
        yield from _conjuncts(tree.this)
    else:
        yield tree


def _alias_of(tree: exp.Expr) -> str:
    """The name of something in a FROM clause; a query may have none."""
    name = tree.alias_or_name or (name_of(tree) if isinstance(tree, exp.Table) else f"query {id(tree)}")
    return str(name).rpartition(".")[2]


def _is_star(node: exp.Expr) -> bool:
    return isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star))


def _is_same(column: exp.Column, key: exp.Expr) -> bool:
    return isinstance(key, exp.Column) and key.name == column.name and (key.table == column.table or not key.table)
