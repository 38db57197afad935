"""Templates that translate calls of GoogleSQL functions: DuckDB expressions with places for the arguments.

A key of ``TEMPLATES`` is the function's name, followed by the number of arguments if the translation depends on it. In
a template, ``_1``, ``_2`` ... are the arguments. Source: BigQuery's function reference.
"""

from __future__ import annotations

from collections.abc import Mapping

from ledger.warehouse.duckdb.zone_names import IN_TEXT, checked

_BYTES_OR_TEXT = "CASE TYPEOF(_1) WHEN 'BLOB' THEN OCTET_LENGTH(CAST(_1 AS BLOB)) ELSE STRLEN(CAST(_1 AS VARCHAR)) END"
_SPACE = "' ' || CHR(9) || CHR(10) || CHR(11) || CHR(12) || CHR(13) || CHR(133) || CHR(160) || CHR(8239) || CHR(12288)"
#: The position of the nth match of a text, searched from a position.
_NTH = (
    "COALESCE(LIST_EXTRACT(LIST_FILTER(RANGE(_3, LENGTH(_1) + 1), "
    "lambda p: SUBSTRING(_1, CAST(p AS BIGINT), LENGTH(_2)) = _2), _4), 0)"
)
_BACKWARDS = (
    "COALESCE(LIST_EXTRACT(LIST_FILTER(RANGE(LENGTH(_1) + 1 + _3, 0, -1), "
    "lambda p: SUBSTRING(_1, CAST(p AS BIGINT), LENGTH(_2)) = _2), _4), 0)"
)
_INSTR = (
    "CAST(CASE WHEN _3 = 0 THEN ERROR('INSTR() needs a position other than 0') "
    f"WHEN _3 > 0 THEN {_NTH} ELSE {_BACKWARDS} END AS BIGINT)"
)
#: GoogleSQL counts a negative start from the end, and takes 0, and a start before the text, for the first character.
_START = "CASE WHEN _2 >= 0 THEN GREATEST(_2, 1) WHEN _2 < 0 THEN GREATEST(LENGTH(_1) + _2 + 1, 1) END"
_JSON_KINDS = "'BIGINT', 'UBIGINT', 'HUGEINT', 'DOUBLE'"
_ZONE = f"REGEXP_EXTRACT(CAST(_1 AS VARCHAR), '{IN_TEXT}', 1)"
_ITEM = "JSON_EXTRACT_STRING(j, '$')"


def _array_reader(name: str, kinds: str, value: str) -> str:
    return (
        "CASE WHEN JSON_TYPE(_1) = 'ARRAY' THEN LIST_TRANSFORM(CAST(_1 AS JSON[]), lambda j: "
        f"CASE WHEN JSON_TYPE(j) IN ({kinds}) THEN {value} "
        f"ELSE ERROR('{name}() requires a JSON array of such values') END) "
        f"WHEN _1 IS NOT NULL THEN ERROR('{name}() requires a JSON array') END"
    )


def _bounded(name: str, domain: str, wanted: str) -> str:
    return f"CASE WHEN NOT {domain} THEN ERROR('{name}() needs {wanted}') ELSE {name}(_1) END"


def _lax_array_reader(value: str) -> str:
    return f"CASE WHEN JSON_TYPE(_1) = 'ARRAY' THEN LIST_TRANSFORM(CAST(_1 AS JSON[]), lambda j: {value}) END"


def _counted(name: str, arguments: str) -> str:
    return f"CASE WHEN _2 < 0 THEN ERROR('{name}() needs a number of 0 or more') ELSE {name}({arguments}) END"


TEMPLATES: Mapping[str, str] = {
    # text
    "ASCII": "CASE WHEN _1 = '' THEN 0 WHEN UNICODE(_1) > 127 THEN ERROR('ASCII() needs an ASCII text') "
    "ELSE ASCII(_1) END",
    "LEFT": _counted("LEFT", "_1, _2"),
    "RIGHT": _counted("RIGHT", "_1, _2"),
    "REPEAT": _counted("REPEAT", "_1, _2"),
    "LPAD/2": _counted("LPAD", "_1, _2, ' '"),
    "LPAD/3": _counted("LPAD", "_1, _2, _3"),
    "RPAD/2": _counted("RPAD", "_1, _2, ' '"),
    "RPAD/3": _counted("RPAD", "_1, _2, _3"),
    "EDIT_DISTANCE/2": "CASE WHEN STRLEN(_1) <> LENGTH(_1) OR STRLEN(_2) <> LENGTH(_2) THEN "
    "ERROR('Over DuckDB, EDIT_DISTANCE() needs ASCII texts') ELSE LEVENSHTEIN(_1, _2) END",
    "BYTE_LENGTH": _BYTES_OR_TEXT,
    "OCTET_LENGTH": _BYTES_OR_TEXT,
    "CODE_POINTS_TO_STRING": "ARRAY_TO_STRING(LIST_TRANSFORM(_1, lambda p: CHR(CAST(p AS INTEGER))), '')",
    "TO_CODE_POINTS": "CASE WHEN _1 = '' THEN CAST([] AS BIGINT[]) ELSE LIST_TRANSFORM(STRING_SPLIT(_1, ''), "
    "lambda c: CAST(UNICODE(c) AS BIGINT)) END",
    "CONTAINS_SUBSTR": "CASE WHEN REGEXP_MATCHES(TYPEOF(_1), '^(STRUCT|TUPLE)|]$') THEN "
    "ERROR('Over DuckDB, CONTAINS_SUBSTR() takes no ARRAY or STRUCT') ELSE "
    "CONTAINS(LOWER(NFC_NORMALIZE(CAST(_1 AS VARCHAR))), LOWER(NFC_NORMALIZE(_2))) END",
    "INSTR/2": "CAST(STRPOS(_1, _2) AS BIGINT)",
    "INSTR/3": _INSTR.replace("_4", "1"),
    "INSTR/4": _INSTR,
    "NORMALIZE/1": "NFC_NORMALIZE(_1)",
    "NORMALIZE_AND_CASEFOLD/1": "LOWER(NFC_NORMALIZE(_1))",
    "SAFE_CONVERT_BYTES_TO_STRING": "TRY(DECODE(_1))",
    "SUBSTR/2": f"SUBSTRING(_1, {_START})",
    "SUBSTR/3": f"CASE WHEN _3 < 0 THEN ERROR('SUBSTR() needs a length of 0 or more') ELSE "
    f"SUBSTRING(_1, {_START}, _3) END",
    "SUBSTRING/2": f"SUBSTRING(_1, {_START})",
    "SUBSTRING/3": f"CASE WHEN _3 < 0 THEN ERROR('SUBSTRING() needs a length of 0 or more') ELSE "
    f"SUBSTRING(_1, {_START}, _3) END",
    "TRIM/1": f"TRIM(_1, {_SPACE})",
    "TRIM/2": "TRIM(_1, _2)",
    "LTRIM/1": f"LTRIM(_1, {_SPACE})",
    "LTRIM/2": "LTRIM(_1, _2)",
    "RTRIM/1": f"RTRIM(_1, {_SPACE})",
    "RTRIM/2": "RTRIM(_1, _2)",
    "UNICODE": "CASE WHEN _1 = '' THEN 0 ELSE UNICODE(_1) END",
    "BIT_COUNT": "BIT_COUNT(CAST(_1 AS BIGINT))",
    # numbers; DuckDB 2 gives NaN or infinity where GoogleSQL has an error
    "LN": _bounded("LN", "_1 > 0", "a number above 0"),
    "LOG/1": _bounded("LN", "_1 > 0", "a number above 0"),
    "LOG/2": "CASE WHEN _1 <= 0 OR _2 <= 0 OR _2 = 1 THEN ERROR('LOG() needs numbers above 0 and a base other than 1') "
    "ELSE LN(_1) / LN(_2) END",
    "LOG10": _bounded("LOG10", "_1 > 0", "a number above 0"),
    "SQRT": _bounded("SQRT", "_1 >= 0", "a number of 0 or more"),
    "ACOS": _bounded("ACOS", "_1 BETWEEN -1 AND 1", "a number from -1 to 1"),
    "ASIN": _bounded("ASIN", "_1 BETWEEN -1 AND 1", "a number from -1 to 1"),
    "ACOSH": _bounded("ACOSH", "_1 >= 1", "a number of 1 or more"),
    "CBRT": "SIGN(_1) * ROUND(POW(ABS(_1), CAST(1 AS DOUBLE) / 3), 14)",
    "IEEE_DIVIDE": "CASE WHEN _2 = 0 THEN CASE WHEN _1 = 0 OR ISNAN(CAST(_1 AS DOUBLE)) THEN CAST('nan' AS DOUBLE) "
    "ELSE SIGN(_1) * CAST('inf' AS DOUBLE) END ELSE CAST(_1 AS DOUBLE) / _2 END",
    "SAFE_ADD": "TRY(_1 + _2)",
    "SAFE_SUBTRACT": "TRY(_1 - _2)",
    "SAFE_MULTIPLY": "TRY(_1 * _2)",
    "SAFE_NEGATE": "TRY(-_1)",
    "PARSE_NUMERIC": "CAST(TRIM(_1) AS DECIMAL(38, 9))",
    "RANGE_BUCKET": "CASE WHEN LIST_SORT(_2) <> _2 THEN ERROR('RANGE_BUCKET() needs an array in ascending order') "
    "WHEN _1 IS NOT NULL AND (TYPEOF(_1) <> 'DOUBLE' OR CAST(_1 AS VARCHAR) <> 'nan') "
    "THEN CAST(LENGTH(LIST_FILTER(_2, lambda b: b <= _1)) AS BIGINT) END",
    "GREATEST": "",  # any number of arguments: see translations.templates
    "LEAST": "",
    # times
    "TIMESTAMP/1": checked(_ZONE, "CAST(CAST(_1 AS TIMESTAMPTZ) AS TIMESTAMP)"),
    "TIMESTAMP_SECONDS": "MAKE_TIMESTAMP(CAST(_1 AS BIGINT) * 1000000)",
    "UNIX_SECONDS": "CAST(FLOOR(EPOCH_US(_1) / CAST(1000000 AS DOUBLE)) AS BIGINT)",
    "UNIX_MILLIS": "CAST(FLOOR(EPOCH_US(_1) / CAST(1000 AS DOUBLE)) AS BIGINT)",
    "DATE_FROM_UNIX_DATE": "CAST(CAST('1970-01-01' AS DATE) + CAST(_1 AS INTEGER) AS DATE)",
    "CURRENT_DATETIME/0": "MAKE_TIMESTAMP(EPOCH_US(NOW()))",
    "CURRENT_TIME/0": "CAST(MAKE_TIMESTAMP(EPOCH_US(NOW())) AS TIME)",
    "JUSTIFY_HOURS": "TO_DAYS(CAST(FLOOR(EPOCH(_1) / 86400) AS INTEGER)) + TO_MICROSECONDS(CAST(EPOCH(_1) * 1000000 AS "
    "BIGINT) % 86400000000)",
    # JSON
    "INT64_ARRAY": _array_reader("INT64_ARRAY", "'BIGINT', 'UBIGINT'", f"CAST({_ITEM} AS BIGINT)"),
    "FLOAT64_ARRAY": _array_reader("FLOAT64_ARRAY", _JSON_KINDS, f"CAST({_ITEM} AS DOUBLE)"),
    "BOOL_ARRAY": _array_reader("BOOL_ARRAY", "'BOOLEAN'", f"CAST({_ITEM} AS BOOLEAN)"),
    "STRING_ARRAY": _array_reader("STRING_ARRAY", "'VARCHAR'", _ITEM),
    "LAX_STRING_ARRAY": _lax_array_reader(
        f"CASE WHEN JSON_TYPE(j) IN ('VARCHAR', 'BOOLEAN', {_JSON_KINDS}) THEN {_ITEM} END"
    ),
    "LAX_FLOAT64_ARRAY": _lax_array_reader(
        f"CASE WHEN JSON_TYPE(j) IN ('VARCHAR', {_JSON_KINDS}) THEN TRY_CAST({_ITEM} AS DOUBLE) END"
    ),
    "LAX_INT64_ARRAY": _lax_array_reader(
        f"CASE WHEN JSON_TYPE(j) IN ('VARCHAR', {_JSON_KINDS}) THEN TRY_CAST({_ITEM} AS BIGINT) END"
    ),
    "LAX_BOOL_ARRAY": _lax_array_reader(
        f"CASE WHEN LOWER({_ITEM}) IN ('true', 'false') THEN LOWER({_ITEM}) = 'true' END"
    ),
    "JSON_KEYS/2": "CASE WHEN _2 = 1 THEN LIST_SORT(JSON_KEYS(_1)) ELSE "
    "ERROR('Over DuckDB, JSON_KEYS() needs the depth 1') END",
    "TO_JSON_STRING/1": "TO_JSON_STRING(_1)",  # forms.json translates both
    "TO_JSON/1": "TO_JSON(_1)",
    # arrays
    "ARRAY_CONCAT/2": "CASE WHEN _1 IS NOT NULL AND _2 IS NOT NULL THEN LIST_CONCAT(_1, _2) END",
    "ARRAY_FIRST": "CASE WHEN LENGTH(_1) = 0 THEN ERROR('ARRAY_FIRST() needs an array with elements') ELSE _1[1] END",
    "ARRAY_LAST": "CASE WHEN LENGTH(_1) = 0 THEN ERROR('ARRAY_LAST() needs an array with elements') ELSE _1[-1] END",
    "ARRAY_INCLUDES": "LIST_CONTAINS(_1, _2)",
    "ARRAY_SLICE": "LIST_SLICE(_1, CASE WHEN _2 >= 0 THEN _2 + 1 ELSE GREATEST(LENGTH(_1) + _2 + 1, 1) END, "
    "CASE WHEN _3 >= 0 THEN _3 + 1 ELSE LENGTH(_1) + _3 + 1 END)",
}
#: The names in ``TEMPLATES``. SQLGlot's parser leaves these functions as they are.
NAMES = frozenset(key.partition("/")[0] for key in TEMPLATES)
