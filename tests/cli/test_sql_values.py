"""Values of an answer that have no JSON form, as `ledger sql` prints them in each format."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from dateutil.relativedelta import relativedelta

from ledger.cli.commands.warehouse import print_answer
from ledger.warehouse.answer import Answer
from support.shell import Shell

VALUES = [
    (datetime.fromisoformat("2026-11-30T10:09:18.000005"), "2026-11-30T10:09:18.000005"),
    (datetime.fromisoformat("2026-11-30"), "2026-11-30T00:00:00.000000"),
    (datetime(2026, 11, 30, tzinfo=UTC), "2026-11-30T00:00:00.000000Z"),
    (date(2026, 11, 30), "2026-11-30"),
    (time(1, 2, 3), "01:02:03"),
    (Decimal("1.5"), "1.5"),
    (b"", ""),
    (b"\xfb\xff\x00", "+/8A"),
    (timedelta(days=1, hours=1), "0-0 1 1:0:0"),
    (timedelta(days=-1, hours=-1, milliseconds=-500), "0-0 -1 -1:0:0.5"),
    (timedelta(0), "0-0 0 0:0:0"),
    (relativedelta(years=1, months=2, days=3, hours=4, minutes=5, seconds=6, microseconds=70), "1-2 3 4:5:6.00007"),
    (relativedelta(months=-14, days=3), "-1-2 3 0:0:0"),
]


@pytest.mark.parametrize(("value", "text"), VALUES)
def test_a_value_is_the_same_text_in_each_format(value, text, capsys):
    answer = Answer(("x", "many"), [(value, [value, {"in": value}])])
    print_answer(answer, "json")
    assert json.loads(capsys.readouterr().out)["rows"] == [{"x": text, "many": [text, {"in": text}]}]
    print_answer(answer, "csv")
    assert capsys.readouterr().out.splitlines()[1].split(",")[0] == (text or "")
    print_answer(answer, "table")
    assert capsys.readouterr().out.splitlines()[1].startswith(text)


def test_floats_that_are_no_numbers_are_told_from_null_in_each_format(shell: Shell) -> None:
    statement = (
        "SELECT IEEE_DIVIDE(1, 0) AS up, IEEE_DIVIDE(-1, 0) AS down, IEEE_DIVIDE(0, 0) AS none, "
        "CAST(NULL AS FLOAT64) AS unknown, [IEEE_DIVIDE(1, 0), 0.5] AS many"
    )
    shell.ok("init")
    assert shell.ok("sql", statement, "--format", "csv").splitlines()[1] == 'inf,-inf,nan,,"[""Infinity"",0.5]"'
    assert shell.ok("sql", statement).splitlines()[1].split() == ["inf", "-inf", "nan", '["Infinity",0.5]']
    assert shell.json("sql", statement)["rows"] == [
        {"up": "Infinity", "down": "-Infinity", "none": "NaN", "unknown": None, "many": ["Infinity", 0.5]}
    ]


def test_a_parameter_that_is_given_twice_is_refused(shell: Shell) -> None:
    shell.ok("init")
    for options in (("--param", "u=a", "--param", "u=b"), ("--param", "u=a", "--param", "u:=1")):
        assert shell.fails("sql", "SELECT @u AS u", *options) == (
            3,
            "--param has u twice; give it once. (invalid_input)",
        )


def test_a_parameter_may_be_an_array_or_null(shell: Shell) -> None:
    shell.ok("init")
    statement = "SELECT @n IS NULL AS none, ARRAY_LENGTH(@many) AS many"
    assert shell.json("sql", statement, "--param", "n:=null", "--param", "many:=[1, 2]")["rows"] == [
        {"none": True, "many": 2}
    ]


def test_a_file_in_place_of_a_statement_is_refused_with_how_to_run_it(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.ok("init")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my report.sql").write_text("SELECT 1 AS one")
    assert shell.fails("sql", "my report.sql")[1].endswith(
        "is a file, not a statement; run it with: ledger sql - < 'my report.sql' (invalid_input)"
    )
    assert "ledger sql -" not in shell.fails("sql", "other.sql")[1]
