"""Time zones over a DuckDB file: in texts that stand for TIMESTAMPs, and in functions. Google's reference judges."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from ledger.errors import InvalidInput

ROW = "(SELECT TIMESTAMP '2026-10-31 20:00:00+00' AS created_at, 'x' AS word, TIMESTAMP '2026-10-31 20:00:00+00' AS u)"
INDIA, PARIS = "'2026-11-01 01:30:00+05:30'", "'2026-10-31 21:00:00.5 Europe/Paris'"
IN_FALL = "TIMESTAMP '2026-11-01 06:40:20+00'"
SAME = (
    "created_at >= '2026-11-01T00:00:00+05:30'",
    "u < '2026-11-01T00:00:00+05:30'",
    f"created_at BETWEEN {INDIA} AND '2026-11-02'",
    f"created_at IN ({INDIA})",
    f"created_at IN UNNEST([{INDIA}])",
    f"(created_at, 1) IN (({INDIA}, 1))",
    f"created_at IS NOT DISTINCT FROM {INDIA}",
    f"created_at + INTERVAL 1 HOUR > {INDIA}",
    f"MAX(u) OVER () = {INDIA}",
    f"word < {INDIA}",
    f"GREATEST(created_at, {PARIS})",
    f"LEAST({INDIA}, u)",
    f"COALESCE(NULL, created_at, {PARIS})",
    f"IF(FALSE, created_at, {PARIS})",
    f"CASE WHEN FALSE THEN created_at ELSE {PARIS} END",
    f"CASE created_at WHEN {INDIA} THEN 1 ELSE 2 END",
    f"NULLIF(created_at, {INDIA})",
    f"[created_at, {PARIS}]",
    f"ARRAY_INCLUDES([created_at], {INDIA})",
    "(SELECT MIN(t) FROM UNNEST([u, '2026-11-01 01:30:00+06:30']) AS t)",
    f"LAG(created_at, 1, {INDIA}) OVER (ORDER BY u)",
    f"(SELECT MIN(c) FROM (SELECT created_at AS c UNION ALL SELECT {PARIS}))",
    f"TIMESTAMP_ADD({INDIA}, INTERVAL 1 HOUR)",
    f"TIMESTAMP_DIFF({PARIS}, created_at, HOUR)",
    f"TIMESTAMP_TRUNC({INDIA}, DAY)",
    f"FORMAT_TIMESTAMP('%F %T', {INDIA})",
    f"UNIX_SECONDS({INDIA})",
    f"DATE({INDIA})",
    f"DATE({INDIA}, 'Asia/Tokyo')",
    f"TIMESTAMP {PARIS}",
    "TIMESTAMP '2026-11-01 5:3:1.5+5:30'",
    "TIMESTAMP '2026-11-01t05:30:00z'",
    "TIMESTAMP('2026-11-01 01:30:00 America/New_York')",
    "TIMESTAMP('2026-11-01 01:30:00', 'America/New_York')",
    "TIMESTAMP('2026-11-01 02:30:00', 'America/New_York')",
    "TIMESTAMP(DATETIME '2026-03-08 02:30:00', 'America/New_York')",
    "TIMESTAMP('2026-04-05 01:45:00', 'Australia/Lord_Howe')",
    f"TIMESTAMP_TRUNC({IN_FALL}, HOUR, 'America/New_York')",
    f"TIMESTAMP_TRUNC({IN_FALL}, HOUR, 'Asia/Kolkata')",
    "TIMESTAMP_TRUNC(TIMESTAMP '1850-11-01 06:40:20+00', MINUTE, 'Asia/Kolkata')",
    "TIMESTAMP_TRUNC(TIMESTAMP '2018-11-04 15:30:00+00', DAY, 'America/Sao_Paulo')",
    "TIMESTAMP_TRUNC(created_at, WEEK(MONDAY), 'Asia/Kolkata')",
    "DATE_TRUNC(created_at, DAY, 'Asia/Kolkata')",
    "DATE_TRUNC(created_at, MONTH, '-08')",
    "DATE_TRUNC(created_at, WEEK)",
    "DATETIME_TRUNC(created_at, ISOYEAR, 'Asia/Kolkata')",
    "TIMESTAMP_TRUNC(DATETIME '2026-11-01 05:06:07', DAY)",
    "(SELECT TIMESTAMP_TRUNC(x, DAY) FROM (SELECT DATETIME '2026-11-01 05:06:07' AS x))",
    "(SELECT DATE_TRUNC(x, MONTH) FROM (SELECT DATETIME(created_at, '+05:30') AS x))",
    "(SELECT DATETIME_ADD(TIMESTAMP_ADD(x, INTERVAL 1 DAY), INTERVAL 1 DAY) FROM (SELECT DATETIME(created_at) AS x))",
    "(SELECT DATETIME_ADD(y, INTERVAL 1 DAY) FROM (SELECT created_at AS y))",
    "(SELECT MAX(x) FROM (SELECT DATETIME(created_at, '+05:30') AS x))",
    "(SELECT z FROM (SELECT TIMESTAMP_ADD(DATETIME_ADD(z, INTERVAL 1 DAY), INTERVAL 1 DAY) AS z FROM (SELECT u AS z)))",
    "EXTRACT(WEEK(MONDAY) FROM TIMESTAMP '2026-11-01 20:40:20+00' AT TIME ZONE 'Asia/Kolkata')",
    "EXTRACT(DATE FROM created_at AT TIME ZONE '+05:30')",
    "EXTRACT(DATETIME FROM created_at AT TIME ZONE 'Asia/Kolkata')",
    "DATETIME(created_at, '+05:30')",
    "DATE(created_at, 'Asia/Kolkata')",
    "TIME(created_at, '-8:00')",
    "STRING(created_at, '+05:30')",
    "FORMAT_TIMESTAMP('%F %T', created_at, '+05:30')",
    "STRING(created_at, 'UTC-5:30')",
    "TIMESTAMP '2026-11-01 12:00:00 UTC+5:30'",
    "TIMESTAMP '2026-11-01 12:00:00 EST'",
    "EXTRACT(HOUR FROM created_at AT TIME ZONE REPLACE('Asia/Tokio', 'kio', 'kyo'))",
    "TIMESTAMP(CONCAT('2026-11-01 01:30:00', ' Asia/Tokyo'))",
    "SAFE_CAST('2026-11-01 12:00:00 BST' AS TIMESTAMP)",
    "SAFE.STRING(created_at, 'BST')",
    "PARSE_TIMESTAMP('%Y-%m-%d %H:%M:%S %Z', '2026-11-01 12:00:00 Europe/Paris')",
    "PARSE_TIMESTAMP('%Y-%m-%dT%H:%M:%E*S%Z', '2026-11-01T12:00:00.5EST', 'Asia/Tokyo')",
    "PARSE_TIMESTAMP('%Y-%m-%d %H:%M:%S%Ez', '2026-11-01 12:00:00+05:30', 'Asia/Tokyo')",
)
#: Expressions that GoogleSQL refuses, too.
REFUSED = {
    f"DATE(created_at) = {INDIA}": "compared with a date or time",
    f"DATETIME(created_at) > {INDIA}": "has a time zone",
    f"DATETIME {INDIA} = DATETIME '2026-11-01'": "a DATETIME has no time zone",
    f"created_at = CAST({INDIA} AS STRING)": "write TIMESTAMP(text)",
    f"(SELECT x FROM UNNEST([{INDIA}]) AS x WHERE x = created_at)": "write TIMESTAMP(text)",
    f"DATETIME({INDIA})": "has a time zone",
    f"DATE_TRUNC({INDIA}, DAY)": "has a time zone",
    "TIMESTAMP('2026-11-03 05:40:00+02', 'Asia/Kolkata')": "takes a text without one",
    "TIMESTAMP '2026-11-01 05:30:00+19'": "at most 14 hours",
    "TIMESTAMP '2026-11-01 05:30:00 +05:30'": "no time zone",
    "DATE_TRUNC(DATE '2026-11-01', DAY, 'Asia/Kolkata')": "A DATE or TIME has no time zone",
    "DATETIME_TRUNC(DATETIME '2026-11-01', DAY, 'Asia/Kolkata')": "A DATETIME has no time zone",
    "DATE_TRUNC(created_at, DAY, 'Asia/Kolkatta')": "no time zone 'Asia/Kolkatta'",
    "TIMESTAMP('2026-11-01 12:00:00', 'BST')": "no time zone 'BST'",
    "TIMESTAMP('2026-11-01 12:00:00', UPPER('Bst'))": "no time zone 'BST'",
    "DATE(created_at, 'IST')": "no time zone 'IST'",
    "EXTRACT(HOUR FROM created_at AT TIME ZONE 'PST')": "no time zone 'PST'",
    "EXTRACT(HOUR FROM created_at AT TIME ZONE CONCAT('P', 'ST'))": "no time zone 'PST'",
    "FORMAT_TIMESTAMP('%F %T', created_at, 'CST')": "no time zone 'CST'",
    "TIMESTAMP_TRUNC(created_at, DAY, 'AST')": "no time zone 'AST'",
    "TIMESTAMP '2026-11-01 12:00:00 BST'": "no time zone 'BST'",
    "created_at < '2026-11-01 12:00:00 JST'": "no time zone 'JST'",
    "created_at IN UNNEST(['2026-11-01 12:00:00 JST'])": "no time zone 'JST'",
    "CAST(CONCAT('2026-11-01 12:00:00', ' BST') AS TIMESTAMP)": "no time zone 'BST'",
    "PARSE_TIMESTAMP('%Y-%m-%d %H:%M:%S %Z', '2026-11-01 12:00:00 BST')": "no time zone 'BST'",
    "PARSE_DATE('%Y-%m-%d %z', '2026-11-01 +0530')": "an element of PARSE_TIMESTAMP only",
}


@pytest.mark.duckdb
def test_a_time_zone_counts_as_in_googles_reference_implementation(file, judge):
    assert judge.differences(file.query, SAME, ROW) == []


@pytest.mark.duckdb
@pytest.mark.parametrize("expression", REFUSED)
def test_a_time_zone_that_googlesql_refuses_is_refused(file, judge, expression):
    with pytest.raises(Exception, match=r"INVALID_ARGUMENT|OUT_OF_RANGE"):
        judge.texts(f"SELECT TO_JSON_STRING({expression}) FROM {ROW}")
    with pytest.raises(InvalidInput) as raised:
        file.query(f"SELECT {expression} AS v FROM {ROW}")
    assert REFUSED[expression] in str(raised.value)


@pytest.mark.duckdb
@pytest.mark.parametrize(
    ("expression", "value", "expected"),
    [
        ("created_at >= @t", "2026-11-01T00:00:00+05:30", True),
        ("@t = created_at", "2026-11-01 01:30:00 Asia/Kolkata", True),
        ("created_at IN (@t)", "2026-11-01 01:30:00+05:30", True),
        ("created_at IN UNNEST(@t)", ["2026-11-01 01:30:00+05:30"], True),
        ("created_at = @t", "2026-10-31T20:00:00Z", True),
        ("created_at = @t", " 2026-11-01 01:30:00+05:30\n", True),
        ("TIMESTAMP(@t)", "2026-10-31 21:00:00 Europe/Paris ", datetime(2026, 10, 31, 20, tzinfo=UTC)),
        ("created_at = @t", datetime(2026, 10, 31, 20, tzinfo=UTC), True),
        ("DATE(@t)", "2026-11-01 00:00:00+05:30", date(2026, 10, 31)),
        ("TIMESTAMP_ADD(@t, INTERVAL 1 DAY)", "2026-11-01 01:30:00+05:30", datetime(2026, 11, 1, 20, tzinfo=UTC)),
        ("word < @t", "2026-11-01 01:30:00+05:30", False),
        ("@t", "2026-11-01 01:30:00+05:30", "2026-11-01 01:30:00+05:30"),
    ],
)
def test_a_parameter_that_is_text_is_read_with_its_time_zone(file, expression, value, expected):
    assert file.query(f"SELECT {expression} AS v FROM {ROW}", {"t": value}).rows == [(expected,)]


@pytest.mark.duckdb
@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("EXTRACT(HOUR FROM created_at AT TIME ZONE @t)", "BST"),
        ("STRING(created_at, @t)", "UTC+5:30"),
        ("TIMESTAMP(@t)", "2026-11-01 12:00:00 BST"),
        ("created_at < @t", "2026-11-01 12:00:00 BST"),
        ("created_at IN UNNEST(@t)", ["2026-11-01 12:00:00 BST"]),
    ],
)
def test_a_time_zone_in_a_parameter_has_a_name_of_the_tz_database(file, expression, value):
    with pytest.raises(InvalidInput, match=r"no time zone '(BST|UTC\+5:30)'"):
        file.query(f"SELECT {expression} AS v FROM {ROW}", {"t": value})


@pytest.mark.duckdb
def test_duckdbs_own_abbreviations_are_no_time_zones(file):
    import zoneinfo

    import duckdb

    names = {name for (name,) in duckdb.sql("SELECT name FROM pg_timezone_names()").fetchall()}
    known = names & zoneinfo.available_timezones()
    listed = ", ".join(f"STRUCT({name!r} AS name)" for name in sorted(names))
    sql = f"SELECT name, SAFE.TIMESTAMP('2026-11-01', name) IS NOT NULL AS taken FROM UNNEST([{listed}])"
    taken = {name for name, is_taken in file.query(sql).rows if is_taken}
    assert len(known) > 500
    assert known <= taken
    assert {name for name in taken - known if "/" not in name} == set()


@pytest.mark.duckdb
def test_a_text_with_a_time_zone_needs_timestamp_beside_a_time_of_unknown_type(file):
    rows = "UNNEST([TIMESTAMP '2026-10-31 20:00:00+00']) AS x"
    with pytest.raises(InvalidInput, match=r"write TIMESTAMP\(text\)"):
        file.query(f"SELECT x = @t AS v FROM {rows}", {"t": "2026-11-01 01:30:00+05:30"})
    assert file.query(f"SELECT x = TIMESTAMP(@t) AS v FROM {rows}", {"t": "2026-11-01 01:30:00+05:30"}).rows == [
        (True,)
    ]


@pytest.mark.duckdb
def test_the_arguments_of_a_table_function_are_read_with_their_time_zones(ask):
    from support.histories import event

    recorded = [event(1, ("question", "", "q"))]
    created = ask(recorded, "SELECT created_at FROM sessions")[0][0]
    inside, outside = (created.replace(tzinfo=None).isoformat() + zone for zone in ("+00:01", "-00:01"))
    sql = "SELECT COUNT(*) FROM sessions_between('{}', '2100-01-01')"
    assert [ask(recorded, sql.format(start)) for start in (inside, outside)] == [[(1,)], [(0,)]]
