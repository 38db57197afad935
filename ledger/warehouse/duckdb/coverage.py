"""A table of GoogleSQL's functions: which of them a DuckDB file answers like BigQuery, answers differently, or refuses.

docs/sql.md shows this table. A function that is not in the table is refused too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def _named(names: str, note: str = "") -> dict[str, str]:
    return dict.fromkeys(names.split(), note)


_NO = "refused"
#: Maps a chapter of the reference to its functions. The value is empty if the answers are the same; ``refused``, or
#: ``refused:`` and what to write; or what differs.
COVERAGE: Mapping[str, Mapping[str, str]] = {
    "Text": _named(
        "ASCII BYTE_LENGTH CHAR_LENGTH CHARACTER_LENGTH CHR CODE_POINTS_TO_STRING CONCAT "
        "ENDS_WITH FROM_BASE64 FROM_HEX INITCAP INSTR LEFT LENGTH LPAD LTRIM OCTET_LENGTH "
        "REGEXP_CONTAINS REGEXP_EXTRACT REGEXP_INSTR REGEXP_REPLACE REGEXP_SUBSTR REPEAT "
        "REPLACE REVERSE RIGHT RPAD RTRIM SAFE_CONVERT_BYTES_TO_STRING SPLIT STARTS_WITH STRPOS SUBSTR SUBSTRING "
        "TO_BASE64 TO_CODE_POINTS TO_HEX TRANSLATE TRIM UNICODE MD5 SHA1 SHA256"
    )
    | {
        "FORMAT": "a literal format with %d, %i, %s, %f, %e, %g, %x, %X, %o and %%; others, and NUMERICs, are refused",
        "UPPER": "ß becomes ẞ, not SS",
        "LOWER": "of İ, one character",
        "EDIT_DISTANCE": "ASCII texts; others are refused",
        "CONTAINS_SUBSTR": "without ARRAY and STRUCT",
        "REGEXP_EXTRACT_ALL": "an expression that matches an empty text matches once more, at the end",
        "NORMALIZE": "NFC only; other forms are refused",
        "NORMALIZE_AND_CASEFOLD": "NFC, and lower case in place of case folding",
        "SEARCH": "without options; text only, without the analyzer's percent decoding",
    }
    | _named(
        "COLLATE SOUNDEX FARM_FINGERPRINT SHA512 CODE_POINTS_TO_BYTES FROM_BASE32 TO_BASE32",
        _NO,
    ),
    "Numbers and conditions": _named(
        "ABS ACOS ACOSH ASIN ASINH ATAN ATAN2 ATANH CBRT COS COSH EXP IEEE_DIVIDE "
        "IS_INF IS_NAN LN LOG LOG10 MOD PARSE_NUMERIC POW POWER RAND RANGE_BUCKET SAFE_ADD SAFE_DIVIDE "
        "SAFE_MULTIPLY SAFE_SUBTRACT SIN SINH SQRT TAN TANH BIT_COUNT COALESCE IF IFNULL "
        "NULLIF GENERATE_UUID ERROR"
    )
    | {
        **dict.fromkeys(("ROUND", "CEIL", "CEILING", "FLOOR", "TRUNC"), "gives an INT64 for an INT64"),
        "SIGN": "gives an INT64",
        "SAFE_NEGATE": "of the smallest INT64 is a number beyond 64 bits",
        **dict.fromkeys(("GREATEST", "LEAST"), "NaN is above every number"),
        "DIV": "for INT64; a NUMERIC quotient keeps its fraction",
        "CAST": "without FORMAT and BIGNUMERIC",
        "SAFE_CAST": "as CAST",
    }
    | _named(
        "COSINE_DISTANCE EUCLIDEAN_DISTANCE PARSE_BIGNUMERIC SESSION_USER",
        _NO,
    )
    | {
        "COT": f"{_NO}: write 1 / TAN(x)",
        "COTH": f"{_NO}: write 1 / TANH(x)",
        "CSC": f"{_NO}: write 1 / SIN(x)",
        "CSCH": f"{_NO}: write 1 / SINH(x)",
        "SEC": f"{_NO}: write 1 / COS(x)",
        "SECH": f"{_NO}: write 1 / COSH(x)",
        "NULLIFZERO": f"{_NO}: write NULLIF(x, 0)",
        "ZEROIFNULL": f"{_NO}: write IFNULL(x, 0)",
    },
    "Dates and times": _named(
        "CURRENT_DATE CURRENT_DATETIME CURRENT_TIME CURRENT_TIMESTAMP DATE DATETIME DATETIME_ADD DATETIME_DIFF "
        "DATETIME_SUB DATETIME_TRUNC DATE_DIFF DATE_FROM_UNIX_DATE EXTRACT "
        "GENERATE_TIMESTAMP_ARRAY JUSTIFY_HOURS LAST_DAY MAKE_INTERVAL STRING TIME TIMESTAMP TIMESTAMP_ADD "
        "TIMESTAMP_DIFF TIMESTAMP_MICROS TIMESTAMP_MILLIS TIMESTAMP_SECONDS TIMESTAMP_SUB TIMESTAMP_TRUNC TIME_ADD "
        "TIME_DIFF TIME_SUB TIME_TRUNC UNIX_DATE UNIX_MICROS UNIX_MILLIS UNIX_SECONDS"
    )
    | {
        **dict.fromkeys(
            ("DATE_ADD", "DATE_SUB", "DATE_TRUNC"),
            "of a DATE, or a TIMESTAMP that is a cast, a column named *_at or an alias of one; refuses others",
        ),
        "GENERATE_DATE_ARRAY": "with months, each date is computed from the previous one",
        "FORMAT_DATE": "a literal format, with every documented element of a date except widths",
        "FORMAT_DATETIME": "a literal format, with every documented element except widths",
        "FORMAT_TIME": "a literal format, with every documented element except widths",
        "FORMAT_TIMESTAMP": "a literal format; %s, %z, %Ez and %Z only in UTC",
        "PARSE_DATE": "a literal format",
        "PARSE_DATETIME": "a literal format",
        "PARSE_TIME": "a literal format",
        "PARSE_TIMESTAMP": "a literal format; %Z at its end",
    }
    | _named(
        "DATE_BUCKET DATETIME_BUCKET TIMESTAMP_BUCKET JUSTIFY_DAYS JUSTIFY_INTERVAL RANGE RANGE_OVERLAPS",
        _NO,
    ),
    "JSON": _named(
        "BOOL BOOL_ARRAY FLOAT64 FLOAT64_ARRAY INT64 INT64_ARRAY JSON_ARRAY JSON_EXTRACT_SCALAR "
        "JSON_EXTRACT_STRING_ARRAY JSON_OBJECT JSON_TYPE LAX_BOOL LAX_BOOL_ARRAY "
        "LAX_FLOAT64 LAX_FLOAT64_ARRAY LAX_INT64 LAX_INT64_ARRAY LAX_STRING_ARRAY "
        "STRING_ARRAY TO_JSON"
    )
    | {
        "JSON_EXTRACT": "gives JSON for a STRING too",
        "JSON_EXTRACT_ARRAY": "gives JSON for a STRING too",
        "JSON_VALUE": "a text that is not JSON fails, and numbers lose trailing zeros",
        "JSON_VALUE_ARRAY": "gives the JSON of elements that are arrays or objects, and BigQuery then NULL",
        "LAX_STRING": "of 1.0 is 1.0, not 1",
        "PARSE_JSON": "accepts a comma after the last element, and rounds numbers; the last of equal keys wins",
        "JSON_KEYS": "with the depth 1 only",
        "JSON_QUERY": "gives JSON for a STRING too",
        "JSON_QUERY_ARRAY": "gives JSON for a STRING too",
        "TO_JSON_STRING": "keys keep their order; without pretty-printing",
    }
    | _named(
        "JSON_ARRAY_APPEND JSON_ARRAY_INSERT JSON_CONTAINS JSON_REMOVE JSON_SET JSON_STRIP_NULLS JSON_FLATTEN",
        _NO,
    ),
    "Arrays": _named(
        "ARRAY ARRAY_CONCAT ARRAY_FIRST ARRAY_INCLUDES ARRAY_LAST ARRAY_LENGTH ARRAY_REVERSE ARRAY_SLICE "
        "ARRAY_TO_STRING GENERATE_ARRAY UNNEST STRUCT OFFSET ORDINAL SAFE_OFFSET SAFE_ORDINAL EXISTS"
    )
    | _named(
        "ARRAY_IS_DISTINCT ARRAY_ZIP ARRAY_INCLUDES_ANY ARRAY_INCLUDES_ALL",
        _NO,
    )
    | {
        "ARRAY_FILTER": f"{_NO}: write ARRAY(SELECT x FROM UNNEST(array) AS x WHERE ...)",  # noqa: S608
        "ARRAY_TRANSFORM": f"{_NO}: write ARRAY(SELECT f(x) FROM UNNEST(array) AS x)",  # noqa: S608
    },
    "Aggregates and windows": _named(
        "ANY_VALUE APPROX_COUNT_DISTINCT ARRAY_AGG ARRAY_CONCAT_AGG AVG BIT_AND BIT_OR BIT_XOR "
        "CORR COUNT COUNTIF COVAR_POP COVAR_SAMP LOGICAL_AND LOGICAL_OR MAX MAX_BY MIN MIN_BY STDDEV STDDEV_POP "
        "STDDEV_SAMP STRING_AGG SUM VARIANCE VAR_POP VAR_SAMP CUME_DIST DENSE_RANK FIRST_VALUE LAG LAST_VALUE LEAD "
        "NTH_VALUE NTILE PERCENT_RANK RANK ROW_NUMBER"
    )
    | {
        "APPROX_QUANTILES": "exact; a literal number of 1 to 1000 parts, without RESPECT NULLS",
        "PERCENTILE_CONT": "without RESPECT NULLS",
        "PERCENTILE_DISC": "without RESPECT NULLS",
        "APPROX_TOP_COUNT": f"{_NO}: write COUNT(*) with GROUP BY x ORDER BY COUNT(*) DESC LIMIT n",
        "APPROX_TOP_SUM": f"{_NO}: write SUM(weight) with GROUP BY x ORDER BY SUM(weight) DESC LIMIT n",
        "GROUPING": f"{_NO}: write a SELECT with GROUP BY for each grouping, and UNION ALL between them",
        "ST_UNION_AGG": _NO,
    },
}
#: Prefixes of names that belong to whole chapters which a DuckDB file refuses.
REFUSED_PREFIXES = ("HLL_COUNT.", "NET.", "KEYS.", "AEAD.", "ST_", "S2_", "ML.", "AI.", "KLL_QUANTILES.", "OBJ.")


def functions() -> Iterator[tuple[str, str]]:
    """Yield ``(name, note)`` for each function of the table."""
    for chapter in COVERAGE.values():
        yield from chapter.items()
