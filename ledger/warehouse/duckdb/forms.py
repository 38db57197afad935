"""Write values as text and as JSON in GoogleSQL's forms: CAST to STRING, STRING, CONCAT, TO_JSON, TO_JSON_STRING ...

Each public function is a step of ``ledger.warehouse.duckdb.dialect``: it changes a parsed GoogleSQL tree in place. A
syntax tree does not tell a value's type, so the templates ask DuckDB for it, by TYPEOF, which DuckDB replaces by a
constant. They are long, so a value stands in one once (``large=0``). A form that DuckDB cannot write is an error.

Source: BigQuery's reference of conversion functions and of JSON encodings.
"""

from __future__ import annotations

from orjson import dumps
from sqlglot import exp

from ledger.errors import InvalidInput
from ledger.warehouse.duckdb.functions import innermost_first
from ledger.warehouse.duckdb.kinds import Kinds, known
from ledger.warehouse.duckdb.translations import field_value, fill
from ledger.warehouse.schema import schema

#: Every type has a text, so that each branch of a CASE can be bound. DuckDB 2 computes constants in every branch, so
#: the text is read by TRY_CAST.
_TEXT = "CAST(_1 AS VARCHAR)"


def _micros(time: str, pattern: str) -> str:
    """Return the text of a time with no, three or six digits of the second's fraction, as GoogleSQL writes it."""
    return f"REGEXP_REPLACE(STRFTIME({time}, '{pattern}.%f'), '(\\.000000|000)$', '')"


_INSTANT = f"TRY_CAST({_TEXT} AS TIMESTAMP)"
_CLOCK = _micros(f"TRY_CAST('1970-01-01 ' || {_TEXT} AS TIMESTAMP)", "%H:%M:%S")


def _float(number: str) -> str:
    """Return the text of a FLOAT64: 15 digits if they are enough, else 17."""
    return (
        f"CASE WHEN {number} = 0 THEN '0' WHEN NOT ISFINITE({number}) THEN CAST({number} AS VARCHAR) "
        f"WHEN CAST(PRINTF('%.15g', {number}) AS DOUBLE) = {number} THEN PRINTF('%.15g', {number}) "
        f"ELSE PRINTF('%.17g', {number}) END"
    )


_FLOAT = _float(f"TRY_CAST({_TEXT} AS DOUBLE)")
_NUMERIC = f"REGEXP_REPLACE(REGEXP_REPLACE({_TEXT}, '(\\.\\d*?)0+$', '\\1'), '\\.$', '')"
#: ``years-months days hours:minutes:seconds``, each of the three with its own sign. A later step translates EXTRACT.
_INTERVAL = (
    f"LIST_EXTRACT(LIST_TRANSFORM([TRY_CAST({_TEXT} AS INTERVAL)], lambda i: "
    "CASE WHEN EXTRACT(YEAR FROM i) < 0 OR EXTRACT(MONTH FROM i) < 0 THEN '-' ELSE '' END || "
    "PRINTF('%d-%d %d ', ABS(EXTRACT(YEAR FROM i)), ABS(EXTRACT(MONTH FROM i)), EXTRACT(DAY FROM i)) || "
    "CASE WHEN EXTRACT(HOUR FROM i) < 0 OR EXTRACT(MINUTE FROM i) < 0 OR EXTRACT(SECOND FROM i) < 0 "
    "OR EXTRACT(MICROSECOND FROM i) < 0 THEN '-' ELSE '' END || "
    "PRINTF('%d:%d:%d', ABS(EXTRACT(HOUR FROM i)), ABS(EXTRACT(MINUTE FROM i)), ABS(EXTRACT(SECOND FROM i))) || "
    "REGEXP_REPLACE(PRINTF('.%06d', ABS(EXTRACT(MICROSECOND FROM i))), '(\\.000000|000)$', '')), 1)"
)
_IS_NUMERIC = "TYPEOF(_1) LIKE 'DECIMAL%' AND TYPEOF(_1) NOT LIKE '%]'"
_IS_NESTED = "REGEXP_MATCHES(TYPEOF(_1), '^(STRUCT|TUPLE|MAP)|]$')"
_AS_STRING = (
    f"CASE TYPEOF(_1) WHEN 'TIMESTAMP' THEN {_micros(_INSTANT, '%Y-%m-%d %H:%M:%S')} || zone "
    f"WHEN 'TIME' THEN {_CLOCK} WHEN 'DOUBLE' THEN {_FLOAT} WHEN 'FLOAT' THEN {_FLOAT} "
    f"WHEN 'BLOB' THEN DECODE(TRY_CAST({_TEXT} AS BLOB)) "
    "WHEN 'JSON' THEN ERROR('JSON cannot be cast to STRING; use STRING, LAX_STRING or TO_JSON_STRING') "
    f"WHEN 'INTERVAL' THEN {_INTERVAL} "
    f"ELSE CASE WHEN {_IS_NUMERIC} THEN {_NUMERIC} WHEN {_IS_NESTED} "
    f"THEN ERROR('An ARRAY or STRUCT cannot be cast to STRING; use TO_JSON_STRING') ELSE {_TEXT} END END"
)
#: A later step translates JSON_TYPE, so its values are GoogleSQL's.
_STRING = (
    f"CASE WHEN TYPEOF(_1) IN ('TIMESTAMP', 'DATE', 'TIME') THEN {_AS_STRING} WHEN TYPEOF(_1) = 'JSON' THEN "
    "CASE WHEN JSON_TYPE(CAST(TO_JSON(_1) AS JSON)) = 'string' THEN JSON_EXTRACT_STRING(TO_JSON(_1), '$') "
    "WHEN _1 IS NOT NULL THEN ERROR('STRING() requires a JSON string') END "
    "WHEN _1 IS NOT NULL THEN ERROR('STRING() takes JSON, a date or a time; use CAST(x AS STRING)') END"
)
_REFUSED = (
    "ERROR('Over DuckDB, the JSON of an INTERVAL, or of an ARRAY or STRUCT with such values, is not answered; for "
    "a row write STRUCT(a, b) with its columns')"
)
_ISO = f"{_micros(_INSTANT, '%Y-%m-%dT%H:%M:%S')} || zone"
_BASE64 = f"BASE64(TRY_CAST({_TEXT} AS BLOB))"
_SPECIAL = f"CASE {_TEXT} WHEN 'nan' THEN '\"NaN\"' WHEN 'inf' THEN '\"Infinity\"' WHEN '-inf' THEN '\"-Infinity\"' END"
_AS_JSON = (
    f"CASE TYPEOF(_1) WHEN 'TIMESTAMP' THEN TO_JSON({_ISO}) WHEN 'TIME' THEN TO_JSON({_CLOCK}) "
    f"WHEN 'BLOB' THEN TO_JSON({_BASE64}) WHEN 'DOUBLE' THEN COALESCE(CAST({_SPECIAL} AS JSON), TO_JSON(_1)) "
    f"WHEN 'INTERVAL' THEN {_REFUSED} "
    f"ELSE CASE WHEN {_IS_NUMERIC} THEN TRY_CAST({_NUMERIC} AS JSON) "
    f"WHEN REGEXP_MATCHES(TYPEOF(_1), 'TIME|DECIMAL|BLOB|INTERVAL') THEN {_REFUSED} "
    "ELSE CAST(TO_JSON(_1) AS JSON) END END"
)
_WHOLE = "BETWEEN -9007199254740992 AND 9007199254740992"
_DOUBLES = (
    f"'[' || ARRAY_TO_STRING(LIST_TRANSFORM(TRY_CAST({_TEXT} AS DOUBLE[]), "
    f"lambda d: CASE WHEN d IS NULL THEN 'null' WHEN NOT ISFINITE(d) THEN {_REFUSED} "
    f"ELSE {_float('d')} END), ',') || ']'"
)
_AS_JSON_STRING = (
    f"COALESCE(CASE TYPEOF(_1) WHEN 'TIMESTAMP' THEN '\"' || {_ISO} || '\"' WHEN 'TIME' THEN '\"' || {_CLOCK} || '\"' "
    f"WHEN 'BLOB' THEN '\"' || {_BASE64} || '\"' WHEN 'DOUBLE' THEN COALESCE({_SPECIAL}, {_FLOAT}) "
    f"WHEN 'BIGINT' THEN CASE WHEN TRY_CAST({_TEXT} AS BIGINT) {_WHOLE} THEN {_TEXT} ELSE '\"' || {_TEXT} || '\"' END "
    f"WHEN 'HUGEINT' THEN CASE WHEN TRY_CAST({_TEXT} AS HUGEINT) {_WHOLE} THEN {_TEXT} "
    f"ELSE '\"' || {_TEXT} || '\"' END "
    f"WHEN 'DOUBLE[]' THEN {_DOUBLES} WHEN 'INTERVAL' THEN {_REFUSED} ELSE "
    f"CASE WHEN {_IS_NUMERIC} THEN CASE WHEN {_NUMERIC} NOT LIKE '%.%' AND TRY_CAST({_NUMERIC} AS HUGEINT) {_WHOLE} "
    f"THEN {_NUMERIC} ELSE '\"' || {_NUMERIC} || '\"' END "
    f"WHEN REGEXP_MATCHES(TYPEOF(_1), 'TIME|DECIMAL|BLOB|INTERVAL|DOUBLE') THEN {_REFUSED} "
    "ELSE CAST(TO_JSON(_1) AS VARCHAR) END END, 'null')"
)
_NO_TEXT = (
    "CASE WHEN TYPEOF(_1) IN ('TIMESTAMP', 'TIME', 'DOUBLE', 'FLOAT', 'INTERVAL', 'JSON') "
    "OR TYPEOF(_1) LIKE 'DECIMAL%' THEN ERROR('Over DuckDB, CONCAT and || take STRING, BYTES, ARRAY, INT64, BOOL and "
    "DATE; use CAST(x AS STRING)') "
    "ELSE _1 END"
)


def strings(tree: exp.Expr) -> None:
    """Translate casts to STRING, calls of STRING, and the operands of CONCAT and ``||``, in GoogleSQL's forms."""
    kinds = Kinds(tree)
    for cast in innermost_first(tree, exp.Cast):
        kind = cast.args["to"]
        if kind.meta.get("duckdb") or isinstance(cast.this, exp.Null):  # a template has it
            continue
        if kind.this in (exp.DType.TEXT, exp.DType.VARCHAR):
            text = fill(_AS_STRING.replace("zone", _zone(kinds, cast.this, "'+00'")), cast.this, large=0)
            cast.replace(exp.Anonymous(this="TRY", expressions=[text]) if isinstance(cast, exp.TryCast) else text)
    for call in innermost_first(tree, exp.String):
        if call.args.get("zone") is None:
            call.replace(fill(_STRING.replace("zone", _zone(kinds, call.this, "'+00'")), call.this, large=0))
    for joined in innermost_first(tree, exp.Concat, exp.DPipe):
        operands = joined.expressions or [joined.this, joined.expression]
        if any(_is_null(it) for it in operands):  # DuckDB would give an INTEGER
            of_bytes = any(isinstance(it, exp.ByteString) for it in operands)
            joined.replace(fill(f"CAST(NULL AS {'BLOB' if of_bytes else 'VARCHAR'})"))
            continue
        for operand in operands:
            if kinds.is_instant(operand) or (isinstance(operand, exp.Literal) and not operand.is_string):
                operand.replace(fill(_AS_STRING.replace("zone", _zone(kinds, operand, "'+00'")), operand, large=0))
            elif not isinstance(operand, exp.Literal | exp.DPipe | exp.Concat):
                operand.replace(_guarded(operand))


def json(tree: exp.Expr) -> None:
    """Translate TO_JSON, TO_JSON_STRING, JSON_OBJECT and JSON_ARRAY, with values in GoogleSQL's forms."""
    kinds, rows = Kinds(tree), _rows(tree)
    for call in innermost_first(tree, exp.Anonymous, exp.JSONObject, exp.JSONArray):
        if isinstance(call, exp.JSONObject):
            for pair in call.expressions:
                if isinstance(pair, exp.JSONKeyValue):
                    pair.set("expression", _json(pair.expression, kinds, rows))
        elif isinstance(call, exp.JSONArray):
            call.set("expressions", [_json(value, kinds, rows) for value in call.expressions])
        elif call.name.upper() == "TO_JSON" and len(call.expressions) == 1:
            call.replace(_json(call.expressions[0], kinds, rows))
        elif call.name.upper() == "TO_JSON_STRING" and len(call.expressions) == 1:
            call.replace(_json_string(call.expressions[0], kinds, rows))


def _json(value: exp.Expr, kinds: Kinds, rows: dict[str, exp.Struct]) -> exp.Expr:
    """Return the JSON form of a value. The fields of a STRUCT that is written as such have their own forms."""
    struct = _struct(value, rows)
    if isinstance(value, exp.Array) and value.find(exp.Query) is None:
        return exp.Anonymous(this="JSON_ARRAY", expressions=[_json(it, kinds, rows) for it in value.expressions])
    if _is_text_or_integer(value):
        return fill("TO_JSON(_1)", value)
    if struct is None:
        return fill(_AS_JSON.replace("zone", _zone(kinds, value, "'Z'")), value, large=0)
    pairs = [part for name, it in _fields(struct) for part in (exp.Literal.string(name), _json(it, kinds, rows))]
    return exp.Anonymous(this="JSON_OBJECT", expressions=pairs)


def _json_string(value: exp.Expr, kinds: Kinds, rows: dict[str, exp.Struct]) -> exp.Expr:
    struct = _struct(value, rows)
    if isinstance(value, exp.Array) and value.find(exp.Query) is None and value.expressions:
        items = [_json_string(it, kinds, rows) for it in value.expressions]
        return _joined("[", [("", item) for item in items], "]")
    if struct is None:
        return fill(_AS_JSON_STRING.replace("zone", _zone(kinds, value, "'Z'")), value, large=0)
    fields = [(f"{dumps(name).decode()}:", _json_string(it, kinds, rows)) for name, it in _fields(struct)]
    return _joined("{", fields, "}")


def _joined(start: str, parts: list[tuple[str, exp.Expr]], end: str) -> exp.Expr:
    """Return the concatenation of texts, each with what stands before it."""
    whole: list[exp.Expr] = []
    for number, (before, text) in enumerate(parts):
        whole += [exp.Literal.string(("," if number else start) + before), text]
    return exp.Anonymous(this="CONCAT", expressions=[*whole, exp.Literal.string(end)])


def _struct(value: exp.Expr, rows: dict[str, exp.Struct]) -> exp.Struct | None:
    """Return the STRUCT that an expression is: a call of STRUCT, or the name of a view's rows."""
    value = value.unnest()
    if isinstance(value, exp.Column) and len(value.parts) == 1:
        return rows.get(value.name.lower())
    return value if isinstance(value, exp.Struct) else None


def _fields(struct: exp.Struct) -> list[tuple[str, exp.Expr]]:
    fields = []
    for field in struct.expressions:
        name = field.this.name if isinstance(field, exp.PropertyEQ) else field.alias_or_name
        if not name:
            raise InvalidInput("Over DuckDB, a STRUCT that is written as JSON needs names for its fields; add AS name.")
        fields.append((name, field_value(field)))
    return fields


def _rows(tree: exp.Expr) -> dict[str, exp.Struct]:
    """Return the rows of the ledger's tables and views in a statement as STRUCTs, by their names."""
    columns = {item.name: item.columns for item in schema()}
    hidden = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    found = {}
    for table in tree.find_all(exp.Table):
        name = (table.this.name if isinstance(table.this, exp.Func) else table.name).lower()
        if name in columns and name not in hidden:
            alias = table.alias_or_name or name
            fields = [exp.alias_(known(exp.column(it.name, alias), it.type), it.name) for it in columns[name]]
            found[alias.lower()] = exp.Struct(expressions=fields)
    return found


def _is_text_or_integer(value: exp.Expr) -> bool:
    """Return True if an expression is a STRING or an INT64 by its syntax; the JSON of both is DuckDB's."""
    value = value.unnest()
    if isinstance(value, exp.If):
        return all(_is_text_or_integer(it) for it in (value.args["true"], value.args.get("false")) if it is not None)
    return value.meta.get("kind") == "INT64" or isinstance(value, exp.JSONExtractScalar | exp.Null)


def _is_null(value: exp.Expr) -> bool:
    value = value.unnest()
    return isinstance(value.this if isinstance(value, exp.Cast) else value, exp.Null)


def _zone(kinds: Kinds, value: exp.Expr, zone: str) -> str:
    """Return the end of a time's text: '' of a DATETIME, else the given one."""
    return "''" if kinds.is_datetime(value) else zone


def _guarded(value: exp.Expr) -> exp.Expr:
    """Return the value of a type that CONCAT writes like GoogleSQL; the translated expression fails for other types."""
    if value.find(exp.Query) is not None:
        return value.copy()
    return fill(_NO_TEXT, value)
