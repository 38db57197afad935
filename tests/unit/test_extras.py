"""The extras in the code are those of pyproject.toml, and only what is not installed is a missing extra."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from ledger.errors import ConfigurationError, MissingExtra
from ledger.extras import EXTRAS, missing, require_extra

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[>=<~!; ]", requirement)[0] for requirement in requirements}


def test_the_code_knows_the_extras_of_the_project() -> None:
    declared = {extra: names(packages) for extra, packages in PROJECT["optional-dependencies"].items()}
    assert {extra: set(modules.values()) for extra, modules in EXTRAS.items()} == declared


def test_a_package_of_the_bare_installation_is_in_no_extra() -> None:
    assert not names(PROJECT["dependencies"]) & {name for modules in EXTRAS.values() for name in modules.values()}


@pytest.mark.parametrize(
    ("module", "distribution"), sorted({each for modules in EXTRAS.values() for each in modules.items()})
)
def test_a_module_is_in_its_distribution(module: str, distribution: str) -> None:
    path = module.replace(".", "/")
    files = {str(file) for file in metadata.files(distribution) or ()}
    assert f"{path}/__init__.py" in files


def test_every_extra_that_the_code_requires_is_known() -> None:
    calls = [
        [ast.literal_eval(argument) for argument in node.args]
        for file in (ROOT / "ledger").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require_extra"
    ]
    assert {extra for extra, *_ in calls} == EXTRAS.keys()
    assert all(module in EXTRAS[extra] for extra, *modules in calls for module in modules)


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_that_is_installed_is_passed_over(extra: str) -> None:
    require_extra(extra)
    assert missing(extra) == []


def test_what_is_not_installed_is_named_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("duckdb", "sqlglot"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra) as raised:
        require_extra("analytics")
    assert str(raised.value) == 'Not installed: duckdb, sqlglot. Type in the checkout: pip install ".[analytics]"'
    assert isinstance(raised.value, ConfigurationError)
    assert isinstance(raised.value, ImportError)


def test_only_the_modules_that_are_named_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    require_extra("analytics", "duckdb", "sqlglot")
    assert missing("analytics", "duckdb", "pandas") == ["pandas"]


def test_a_package_without_the_one_that_it_is_in_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("google", "google.cloud", "google.cloud.bigquery"):
        monkeypatch.setitem(sys.modules, module, None)
    assert missing("bigquery", "google.cloud.bigquery") == ["google-cloud-bigquery"]


def test_the_failed_import_of_an_installed_package_is_no_missing_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("import a_package_that_is_nowhere\n")
    for name in [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_nowhere") as raised:
        require_extra("telemetry")
    assert not isinstance(raised.value, MissingExtra)


def test_a_folder_of_a_packages_name_is_not_that_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "duckdb").mkdir()
    monkeypatch.delitem(sys.modules, "duckdb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert missing("analytics", "duckdb") == ["duckdb"]
