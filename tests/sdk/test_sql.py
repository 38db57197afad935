"""GoogleSQL from Python: over a dataset, over a file with a warehouse of either kind, and over a file alone."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ledger import AsyncSessionLedger, InvalidInput, PermissionDenied, SessionLedger
from ledger.testing import START
from support.bigquery_stores import environment

if TYPE_CHECKING:
    from support.emulator import Emulator

KINDS = ("alone", "duckdb", "bigquery", "dataset")


def recorded(ledger: SessionLedger) -> None:
    for number in range(3):
        session_id = ledger.create_session("ada", f"Wie viele, Zürich {number}?", session_id=f"session-{number}")
        ledger.update_constraints(session_id, {"kpi": ["orders"], "n": 2**63, "tool_calls": [{"name": "count"}]})
        if number:
            ledger.update_tool_call_status(session_id, "count", "completed", {"rate": 0.1, "none": None})


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: Any) -> Iterator[Callable[..., SessionLedger]]:
    """Opens a ledger of a kind, with a clock that ticks."""
    with ExitStack() as stack:

        def make(kind: str) -> SessionLedger:
            ticks = count()
            settings: dict[str, Any] = {"clock": lambda: START + timedelta(seconds=next(ticks))}
            url = f"sqlite:///{tmp_path / kind}.db"
            if kind in ("bigquery", "dataset"):
                emulator: Emulator = request.getfixturevalue("emulator")
                for name, value in environment(emulator).items():
                    monkeypatch.setenv(name, value)
                dataset = f"bigquery://{emulator.project}/{request.getfixturevalue('bigquery_dataset')}"
                if kind == "dataset":
                    url = dataset
                else:
                    settings["warehouse"] = dataset
                from ledger.warehouse.urls import open_warehouse

                warehouse = open_warehouse(dataset)
                warehouse.create()
                warehouse.close()
            elif kind == "duckdb":
                settings["warehouse"] = f"duckdb:///{tmp_path / 'warehouse.duckdb'}"
            ledger = SessionLedger.open(url, **settings)
            stack.callback(ledger.close)
            return ledger

        yield make


STATEMENT = """
    SELECT session_id, question, constraints, tool_calls, tool_call_results, status, version, created_at, expires_at,
      version > 1 AS later, version / 2 AS half, DATE(created_at) AS day, NUMERIC '1.50' AS price
    FROM sessions WHERE user_id = @user AND question LIKE @like ORDER BY session_id
"""
PARAMETERS = {"user": "ada", "like": "%Zürich%"}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Any:
    ticks = count()
    path = tmp_path_factory.mktemp("expected") / "ledger.db"
    with SessionLedger(f"sqlite:///{path}", clock=lambda: START + timedelta(seconds=next(ticks))) as ledger:
        recorded(ledger)
        yield ledger.sql(STATEMENT, PARAMETERS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_the_same_for_every_kind_of_ledger(opened, expected, kind):
    import pandas as pd

    ledger = opened(kind)
    recorded(ledger)
    answer = ledger.sql(STATEMENT, PARAMETERS)
    times = [answer.columns.index(name) for name in ("created_at", "expires_at", "day")]
    for row, other in zip(answer.rows, expected.rows, strict=True):
        assert [it for index, it in enumerate(row) if index not in times] == [
            it for index, it in enumerate(other) if index not in times
        ]
        assert row[times[0]].tzinfo == UTC
    assert (answer.columns, answer.types) == (expected.columns, expected.types)
    assert answer.to_arrow().schema == expected.to_arrow().schema
    frame, other = answer.to_frame(), expected.to_frame()
    clocks = ["created_at", "expires_at", "day"]
    pd.testing.assert_frame_equal(frame.drop(columns=clocks), other.drop(columns=clocks))
    assert list(frame.dtypes) == list(other.dtypes)
    assert frame["constraints"][0]["n"] == 2**63
    assert (answer.bytes_processed is None) == (kind in ("alone", "duckdb"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_has_every_append_before_the_call(opened, kind):
    ledger = opened(kind)
    for number in range(1, 3):
        ledger.create_session("ada", "How many?")
        assert ledger.sql("SELECT COUNT(*) AS n FROM sessions").rows == [(number,)]


@pytest.mark.parametrize("kind", KINDS)
def test_elements_of_json_and_of_arrays_are_counted_alike_for_every_kind_of_ledger(opened, kind):
    ledger = opened(kind)
    session_id = ledger.create_session("ada", "How many?")
    ledger.update_constraints(session_id, {"kpi": [10, 20, 30], "tool_calls": [{"name": "count"}, {"name": "sum"}]})
    ledger.update_tool_call_status(session_id, "count", "completed", {"orders": [[1, 2], {"n": [3]}]})
    row = ledger.sql("""
        SELECT constraints.kpi[0] AS a, INT64(constraints['kpi'][2]) AS b, constraints.kpi[3] AS c,
          s.constraints.tool_calls[1].name AS d, JSON_QUERY(constraints, '$.kpi')[1] AS e, tool_calls[0] AS f,
          tool_calls[OFFSET(1)] AS g, tool_calls[ORDINAL(1)] AS h, tool_calls[SAFE_OFFSET(9)] AS i
        FROM sessions AS s
    """).rows
    assert row == [(10, 30, None, "sum", 20, "count", "sum", "count", None)]
    row = ledger.sql("""
        SELECT result.orders[0][1] AS a, result.orders[1].n[0] AS b, result.orders[2] AS c
        FROM tool_calls WHERE call_id = 'count'
    """).rows
    assert row == [(2, 3, None)]


@pytest.mark.parametrize("kind", ["alone", "dataset"])
def test_arrays_and_columns_may_have_qualifiers(opened, kind):
    ledger = opened(kind)
    recorded(ledger)
    for source in (
        "sessions AS s, UNNEST(s.tool_calls) AS name",
        "sessions AS s, s.tool_calls AS name",
        "sessions, sessions.tool_calls AS name",
        "(SELECT name FROM sessions AS s CROSS JOIN s.tool_calls AS name)",
    ):
        assert ledger.sql(f"SELECT COUNT(*) AS n, MIN(name) AS name FROM {source}").rows == [(3, "count")], source
    sql = "SELECT COUNT(*) AS n FROM sessions AS s WHERE EXISTS (SELECT 1 FROM s.tool_calls AS c WHERE c = 'count')"
    if kind == "alone":  # the emulator looks for a dataset named s
        assert ledger.sql(sql).rows == [(3,)]
    names = "SELECT COUNT(*) > 5 AS found FROM INFORMATION_SCHEMA.TABLES AS t WHERE t.table_name LIKE '%'"
    assert ledger.sql(names).rows == [(True,)]


def test_an_answer_is_iterated_as_dictionaries_and_has_its_rows(opened):
    ledger = opened("alone")
    recorded(ledger)
    answer = ledger.sql("SELECT session_id, version FROM sessions ORDER BY session_id")
    assert [row["version"] for row in answer] == [row[1] for row in answer.rows] == [2, 3, 3]
    assert (len(answer), answer.columns, answer.types) == (3, ("session_id", "version"), ("STRING", "INT64"))
    assert len(ledger.sql("SELECT session_id FROM sessions WHERE FALSE").to_frame()) == 0
    assert [answer[0], answer[1], answer[-1]] == list(answer)
    with pytest.raises(IndexError):
        answer[len(answer)]
    with pytest.raises(TypeError):
        answer[0:1]


FRAMED = """
    SELECT * FROM UNNEST([
      STRUCT(9007199254740993 AS whole, TRUE AS flag, 0.5 AS number, TIMESTAMP '2026-03-05 09:30:00+00' AS moment,
        DATE '2026-03-05' AS day, 'a' AS text),
      STRUCT(NULL, NULL, NULL, NULL, NULL, NULL)
    ])
"""


def test_the_types_of_a_frame_are_those_of_its_columns_and_do_not_depend_on_nulls(opened):
    ledger = opened("alone")
    for where, held in (("", [2**53 + 1]), ("WHERE whole IS NOT NULL", [2**53 + 1]), ("WHERE FALSE", [])):
        frame = ledger.sql(f"SELECT * FROM ({FRAMED}) {where}").to_frame().sort_values("whole")
        kinds = [str(dtype) for dtype in frame.dtypes]
        assert kinds == ["Int64", "boolean", "float64", "datetime64[us, UTC]", "object", "str"]
        assert list(frame["whole"].dropna()) == held
        if not where:
            assert [str(frame[name].iloc[1]) for name in ("whole", "flag", "moment")] == ["<NA>", "<NA>", "NaT"]


def test_an_answer_is_a_table_in_a_notebook_escaped_and_with_what_is_left_out(opened):
    answer = opened("alone").sql("""
        SELECT '<script>alert(1)</script>' AS `a<b>`, n, NULL AS nothing, TIMESTAMP '2026-03-05 09:30:00+00' AS moment,
          NUMERIC '1.5' AS price, b'x' AS blob, JSON '{"k": ["<i>"]}' AS document, [1, 2] AS several,
          CAST('nan' AS FLOAT64) AS none
        FROM UNNEST(GENERATE_ARRAY(1, 101)) AS n ORDER BY n
    """)
    html = answer._repr_html_()
    assert html.startswith("<table><caption>101 rows. The first 100 are shown.</caption>")
    assert html.count("<tr>") == 101
    for part in ("&lt;script&gt;alert(1)", "a&lt;b&gt;", ">nothing<", ">2026-03-05 09:30:00+00:00<", ">1.5<", ">100<"):
        assert part in html
    for part in ("{&quot;k&quot;:[&quot;&lt;i&gt;&quot;]}", ">[1,2]<", ">nan<", ">b&#x27;x&#x27;<"):
        assert part in html
    assert "<script>" not in html
    assert ">101<" not in html
    one = opened("alone").sql("SELECT 1 AS n FROM sessions WHERE FALSE")._repr_html_()
    assert one.startswith("<table><caption>0 rows.</caption><thead><tr><th style='text-align:left'>n<")


VALUES = {
    "text": ("ü", "STRING"),
    "whole": (2**62, "INT64"),
    "number": (0.1, "FLOAT64"),
    "flag": (True, "BOOL"),
    "blob": (b"\x00\xff", "BYTES"),
    "price": (Decimal("1.5"), "NUMERIC"),
    "day": (date(2026, 3, 5), "DATE"),
    "hour": (time(9, 30, 0, 5), "TIME"),
    "moment": (datetime(2026, 3, 5, 9, 30, tzinfo=UTC), "TIMESTAMP"),
    "words": (["a", "b"], "ARRAY<STRING>"),
    "numbers": ([1, 2], "ARRAY<INT64>"),
    "moments": ([datetime(2026, 3, 5, 9, 30, tzinfo=UTC)], "ARRAY<TIMESTAMP>"),
}


@pytest.mark.parametrize("kind", ["alone", "dataset"])
def test_parameters_keep_their_values_and_types(opened, kind):
    ledger = opened(kind)
    answer = ledger.sql(
        f"SELECT {', '.join(f'@{name} AS {name}' for name in VALUES)}", {k: v for k, (v, _) in VALUES.items()}
    )
    for name, value, found, kind_of in zip(VALUES, VALUES.values(), answer.rows[0], answer.types, strict=True):
        assert (found, kind_of) == value, name


@pytest.mark.parametrize("kind", ["alone", "dataset"])
def test_values_of_numpy_pandas_and_pyarrow_are_parameters(opened, kind):
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    moment = datetime(2026, 3, 5, 9, 30, tzinfo=UTC)
    texts = pd.Series(["a", "b"], index=["x", "y"])
    values = {
        "whole": (np.int64(7), 7, "INT64"),
        "small": (np.uint8(7), 7, "INT64"),
        "number": (np.float32(0.5), 0.5, "FLOAT64"),
        "flag": (np.bool_(True), True, "BOOL"),
        "text": (np.str_("ü"), "ü", "STRING"),
        "day": (np.datetime64("2026-03-05"), date(2026, 3, 5), "DATE"),
        "moment": (pd.Timestamp(moment), moment, "TIMESTAMP"),
        "east": (pd.Timestamp(moment).tz_convert("Asia/Tokyo"), moment, "TIMESTAMP"),
        "texts": (texts, ["a", "b"], "ARRAY<STRING>"),
        "labels": (texts.index, ["x", "y"], "ARRAY<STRING>"),
        "category": (texts.astype("category"), ["a", "b"], "ARRAY<STRING>"),
        "nullable": (pd.array([1, 2], "Int64"), [1, 2], "ARRAY<INT64>"),
        "vector": (np.array([1, 2], "int32"), [1, 2], "ARRAY<INT64>"),
        "scalars": ([np.int64(1), np.int64(2)], [1, 2], "ARRAY<INT64>"),
        "moments": (pd.Series([pd.Timestamp(moment)]), [moment], "ARRAY<TIMESTAMP>"),
        "arrow": (pa.array([0.5]), [0.5], "ARRAY<FLOAT64>"),
        "scalar": (pa.scalar("a"), "a", "STRING"),
    }
    ledger = opened(kind)
    answer = ledger.sql(
        f"SELECT {', '.join(f'@{name} AS {name}' for name in values)}", {k: v for k, (v, *_) in values.items()}
    )
    for (name, (_, value, kind_of)), found, found_kind in zip(
        values.items(), answer.rows[0], answer.types, strict=True
    ):
        assert (name, found, found_kind) == (name, value, kind_of)
    nulls = {"a": pd.NaT, "b": pd.NA, "c": np.datetime64("NaT", "us"), "d": pd.Series([], dtype="int64")}
    counted = "SELECT @a IS NULL AND @b IS NULL AND @c IS NULL AND ARRAY_LENGTH(@d) = 0 AS yes"
    assert ledger.sql(counted, nulls).rows == [(True,)]
    for value, message in (
        (pd.Timestamp("2026-01-01"), "no time zone"),
        (np.datetime64("2026-01-01T00:00:00"), "no time zone"),
        (pd.Timestamp("2026-01-01T00:00:00.000000001Z"), "finer than a microsecond"),
        (pd.array([1, None], "Int64"), r"contains None; remove it with dropna\(\)"),
        (pd.Series([0.5, None]), r"contains NaN.*remove it with dropna\(\)"),
        (np.datetime64("20000-01-01T00:00:00"), "outside the years"),
        (pd.DataFrame({"a": [1]}), "pass one column of it"),
        (np.zeros((2, 2)), "pass one column of it"),
        (pd.Timedelta(1), "is a "),
    ):
        with pytest.raises(InvalidInput, match=message):
            ledger.sql("SELECT @x AS x", {"x": value})


@pytest.mark.parametrize("kind", ["alone", "dataset"])
def test_none_and_an_empty_list_fit_any_type(opened, kind):
    ledger = opened(kind)
    recorded(ledger)
    counted = "SELECT COUNT(*) AS n FROM sessions WHERE "
    assert ledger.sql(counted + "@least IS NULL OR version >= @least", {"least": None}).rows == [(3,)]
    assert ledger.sql(counted + "@Least IS NULL OR version >= @Least", {"LEAST": 3}).rows == [(2,)]
    assert ledger.sql(counted + "created_at < @until", {"until": None}).rows == [(0,)]
    assert ledger.sql(counted + "version BETWEEN @a AND @b IS NULL", {"a": None, "b": 9}).rows == [(3,)]
    assert ledger.sql(counted + "version NOT IN UNNEST(@some)", {"some": []}).rows == [(3,)]
    assert ledger.sql(counted + "version IN UNNEST(@some) AND '@some' != ''", {"some": (3, 4)}).rows == [(2,)]
    east = timezone(timedelta(hours=5))
    assert ledger.sql(counted + "created_at >= @from", {"from": START.astimezone(east)}).rows == [(3,)]


@pytest.mark.parametrize(
    ("sql", "parameters", "message"),
    [
        ("SELECT @user AS u", {}, "uses @user"),
        ("SELECT @user AS u", {"user": "a", "usr": "b"}, "no @usr"),
        ("SELECT ? AS u", None, "without a name"),
        ("SELECT @x AS x", {"x": object()}, "parameter x is a object"),
        ("SELECT @x AS x", {"x": {"a": 1}}, "PARSE_JSON"),
        ("SELECT @x AS x", {"x": datetime(2026, 1, 1)}, "no time zone"),  # noqa: DTZ001
        ("SELECT @x AS x", {"x": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))}, "outside the years"),
        ("SELECT @x AS x", {"x": [1, None]}, "contains None"),
        ("SELECT @x AS x", {"x": [math.nan, 1.0]}, "contains NaN"),
        ("SELECT @x AS x", {"x": Decimal("NaN")}, "no NUMERIC"),
        ("SELECT @x AS x", {"x": Decimal("1e29")}, "no NUMERIC"),
        ("SELECT @x AS x", {"x": Decimal("1.0000000001")}, "no NUMERIC"),
        ("SELECT a FROM UNNEST(@x)", {"x": [{"a": 1}, {"b": 2}]}, "same keys"),
        ("SELECT a FROM UNNEST(@x)", {"x": [{}]}, "same keys"),
        ("SELECT @x AS x", {"x": 1, "X": 2}, "given twice"),
        ("SELECT '\ud800' AS x", None, "The statement has a lone surrogate"),
        ("SELECT @x AS x", {"x": [1, "a"]}, "different types: int, str"),
        ("SELECT @x AS x", {"x": 2**64}, "64 bits"),
        ("SELECT @x AS x", {"x": "\ud800"}, "surrogate"),
        ("SELECT 1 AS a; SELECT 2 AS b", None, "one SELECT"),
        ("DELETE FROM session_events WHERE TRUE", None, "Only SELECT"),
        ("CREATE TABLE x AS SELECT 1 AS a", None, "Only SELECT"),
        ("", None, "one SELECT"),
        (None, None, "as text"),
        ("SELECT 1 AS a, 2 AS a", None, "several columns named a"),
        ("SELECT COUNT(*) AS n FROM `prod-project.other_dataset.sessions`", None, "has a qualifier"),
        ("SELECT COUNT(*) AS n FROM other_dataset.sessions AS s, s.tool_calls", None, "`other_dataset.sessions` has a"),
        ("SELECT COUNT(*) AS n FROM sessions.sessions", None, "has a qualifier"),
        ("SELECT COUNT(*) AS n FROM other.sessions AS other", None, "has a qualifier"),
        ("SELECT 1 AS a FROM sessions JOIN `a-project`.b.users USING (user_id)", None, "`a-project.b.users` has a"),
        (
            "SELECT 1 AS a FROM other.session_state('s', NULL, NULL, NULL)",
            None,
            "`other.session_state` has a qualifier",
        ),
        ("SELECT 1 AS a FROM `p.d.session_state`('s', NULL, NULL, NULL)", None, "`p.d.session_state` has a qualifier"),
        (
            "SELECT field FROM session_state('s')",
            None,
            r"session_state\(of_session STRING, .* takes 4 arguments, not 1",
        ),
        ("SELECT field FROM session_state", None, "takes 4 arguments, not 0; `ledger schema session_state` says"),
        ("SELECT 1 AS a FROM sessions_between(NULL, NULL, NULL)", None, "takes 2 arguments, not 3"),
        ("SELECT 1 AS a FROM `region-eu`.INFORMATION_SCHEMA.TABLES", None, "has a qualifier"),
    ],
)
@pytest.mark.parametrize("kind", ["alone", "dataset"])
def test_what_is_refused_is_invalid_input_for_every_kind_of_ledger(opened, kind, sql, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        opened(kind).sql(sql, parameters)


@pytest.mark.parametrize(
    ("sql", "place"),
    [
        ("SELCT * FROM sessions", "near 'SELCT *' (line 1, column 1)."),
        ("SELECT * FORM sessions", "near 'FORM sessions' (line 1, column 10)."),
        ("SELECT status\nFROM sessions\n  GROUP status", "near 'GROUP status' (line 3, column 3)."),
        ("SELECT 1 FROM sessions WHERE", "near 'sessions WHERE' (line 1, column 15)."),
        ("SELECT (1 FROM sessions", "near '1 FROM' (line 1, column 9)."),
        ("SELECT * FROM sessions WHERE status = = 'a'", "near '= =' (line 1, column 37)."),
        ("SELECT 1,\n  'open FROM sessions", ": the quote ' at line 2, column 3 is not closed."),
        ("SELECT `open FROM sessions", ": the quote ` at line 1, column 8 is not closed."),
        ("SELECT 1 /* open", ": a text or a comment in it is not closed."),
        ("FROM", "near 'FROM' (line 1, column 1)."),
        ("SELECT DATE_SUB(CURRENT_DATE(), 30) AS v", "take an interval, not 30; write INTERVAL 30 DAY."),
        ("SELECT TIMESTAMP_ADD(created_at, 7 DAY) FROM sessions", "take an interval, not 7; write INTERVAL 7 DAY."),
        ("SELECT 'it''s' AS v", "near ''it''s'' (line 1, column 8); a quote inside a text is written as \\'."),
        ("SELECT 1 AS v UNION SELECT 2", "(line 1, column 15); write UNION ALL or UNION DISTINCT."),
    ],
)
@pytest.mark.parametrize("kind", ["alone", "dataset"])
def test_a_statement_that_is_no_googlesql_is_refused_with_the_place(opened, kind, sql, place):
    with pytest.raises(InvalidInput) as raised:
        opened(kind).sql(sql)
    message = str(raised.value)
    assert message.endswith(place)
    assert "sqlglot" not in message
    assert "<class" not in message


@pytest.mark.parametrize("kind", ["alone", "dataset"])
def test_a_decimal_is_a_numeric_at_its_limits(opened, kind):
    least = Decimal("0.000000001000")
    most = Decimal("99999999999999999999999999999.999999999")  # "-most" would be rounded to the context
    assert opened(kind).sql("SELECT @a AS a, -@b AS b", {"a": least, "b": most}).rows == [(least, most.copy_negate())]


def test_a_view_of_one_user_has_no_sql(opened):
    ledger = opened("alone")
    with pytest.raises(PermissionDenied, match="sql concerns the sessions of all users"):
        ledger.for_user("ada").sql("SELECT 1 AS a")


def test_an_archived_session_is_still_in_the_answers_of_a_file_with_a_warehouse(opened):
    ledger = opened("duckdb")
    recorded(ledger)
    ledger.archive_session("session-1")
    ledger.warehouse.sync()
    assert ledger.drop_archived() == 1
    assert ledger.sql("SELECT COUNT(*) AS n FROM sessions").rows == [(3,)]


def test_the_asynchronous_ledger_is_awaited(tmp_path):
    async def ask() -> list[dict[str, Any]]:
        async with AsyncSessionLedger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
            await ledger.create_session("ada", "How many?")
            return list(await ledger.sql("SELECT user_id FROM sessions WHERE user_id = @user", {"user": "ada"}))

    assert asyncio.run(ask()) == [{"user_id": "ada"}]
