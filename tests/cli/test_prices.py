"""The command prices: import, list and export of the price list, and which models it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.shell import Shell

HEADER = "provider,model,valid_from,input_usd_per_million,cached_input_usd_per_million,output_usd_per_million\n"
LINES = ",m,2026-01-01,1.0,,2.0\np,m,2026-06-01,3.0,0.5,4.0\n"
FIRST = dict(zip(HEADER.strip().split(","), ("", "m", "2026-01-01", 1.0, None, 2.0), strict=True))


def test_prices_are_imported_listed_and_exported(shell: Shell, tmp_path: Path) -> None:
    shell.ok("init")
    assert shell.ok("prices") == "There are no prices; add some with: ledger prices import FILE.csv\n"
    assert shell.ok("prices", "import", "-", stdin=HEADER + LINES) == "2 prices imported; the list has 2 prices.\n"
    assert shell.json("prices", "list")["prices"][0] == FIRST
    assert "m      2026-06-01  3.0" in shell("prices", "list", COLUMNS="150").stdout
    assert shell.ok("prices", "export") == HEADER + LINES
    target = tmp_path / "out.csv"
    shell.ok("prices", "export", "--output", str(target))
    assert target.read_text(encoding="utf-8") == HEADER + LINES
    assert shell.json("prices", "export", "--output", str(target)) == {"prices": 2}
    target.write_text(HEADER + ",n,2026-01-01,1,,2\n", encoding="utf-8")
    assert shell.json("prices", "import", str(target), "--replace") == {"imported": 1, "prices": 1}


@pytest.mark.duckdb
def test_models_without_a_price_are_listed(shell: Shell) -> None:
    session = shell.ok("new", "?").strip()
    shell.ok("model-call", session, "m", "--input-tokens", "1", "--output-tokens", "1")
    (missing,) = shell.json("prices", "missing")["models"]
    assert (missing["provider"], missing["model"], missing["unpriced_count"]) == (None, "m", 1)
    assert "m      1" in shell("prices", "missing", COLUMNS="150").stdout
    shell.ok("prices", "import", "-", stdin=HEADER + LINES)
    assert shell.ok("prices", "missing") == "Every model call of these days has a price.\n"


@pytest.mark.parametrize(
    "args",
    [
        ("import",),
        ("list", "FILE"),
        ("list", "--replace"),
        ("import", "FILE", "--output", "x.csv"),
        ("export", "--from", "2026-01-01"),
        ("export", "--json"),
    ],
)
def test_what_does_not_fit_an_action_is_a_usage_error(shell: Shell, tmp_path: Path, args: tuple[str, ...]) -> None:
    shell.ok("init")
    file = tmp_path / "prices.csv"
    file.write_text(HEADER, encoding="utf-8")
    code, said = shell.fails("prices", *(str(file) if arg == "FILE" else arg for arg in args))
    assert code == 2, said


def test_a_file_without_prices_is_refused_unless_it_replaces_the_list(shell: Shell) -> None:
    shell.ok("init")
    assert shell.fails("prices", "import", "-", stdin=HEADER)[1].startswith("The file has no prices")
    assert shell.ok("prices", "import", "-", "--replace", stdin=HEADER) == "0 prices imported; the list has 0 prices.\n"


@pytest.mark.emulator
@pytest.mark.usefixtures("emulator_settings")
def test_the_list_of_a_ledger_in_bigquery_is_a_table_of_its_dataset(there: Shell) -> None:
    session = there.ok("new", "?").strip()
    there.ok("model-call", session, "m", "--input-tokens", "1000000", "--output-tokens", "0")
    there.ok("prices", "import", "-", "--replace", stdin=HEADER + LINES)
    assert there.ok("prices", "export") == HEADER + LINES
    sql = "SELECT cost_usd, cost_source FROM model_calls WHERE created_at >= '2026-01-01' AND session_id = @id"
    assert there.json("sql", sql, "--param", f"id={session}")["rows"] == [{"cost_usd": 1.0, "cost_source": "estimated"}]
    there.ok("prices", "import", "-", "--replace", stdin=HEADER)
