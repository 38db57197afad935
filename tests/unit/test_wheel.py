"""The wheel works where there is no checkout: the package is whole, and its SQL came along."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SQL = sorted(str(path.relative_to(ROOT / "sql")) for path in (ROOT / "sql").rglob("*.sql"))

# Runs from the installed wheel; argv: the folder it was installed into.
PROGRAM = """
import sys
from pathlib import Path
import ledger
target = Path(sys.argv[1])
package = Path(ledger.__file__).resolve().parent
assert package == target.resolve() / "ledger", package
assert (package / "py.typed").is_file()
if (package / "warehouse" / "catalog.py").exists():
    import ledger.warehouse.catalog
for path in sorted((package / "sql").rglob("*.sql")):
    assert path.read_text(encoding="utf-8").strip(), path
    print(path.relative_to(package / "sql"))
"""


@pytest.fixture(scope="module")
def target(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A pure wheel's files are laid out as they are imported; unpacking is what `pip install --no-deps --target` does.
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(target: Path, program: str, *args: str, cwd: Path) -> str:
    """Run a program that sees the wheel and this environment's packages, and not the checkout."""
    packages = [folder for folder in site.getsitepackages() if Path(folder).is_dir()]
    # -S leaves out site-packages' .pth files, among them the editable install's, which names the checkout.
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, str(target), *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(target), *packages])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_the_sql_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    assert {name.split("/")[0] for name in names} <= {
        "ledger",
        *(n.split("/")[0] for n in names if ".dist-info/" in n),
    }
    assert "ledger/py.typed" in names
    assert sorted(n.removeprefix("ledger/sql/") for n in names if n.endswith(".sql")) == SQL
    assert "Name: session-ledger" in metadata


def test_the_installed_wheel_imports_and_finds_its_sql(target, tmp_path):
    assert SQL, "the checkout has SQL files"
    assert run(target, PROGRAM, cwd=tmp_path).split("\n")[:-1] == SQL


def test_the_installed_command_answers(target, tmp_path):
    program = "import sys; from ledger.cli import main; sys.argv = ['ledger', {}]; main()"
    assert "Usage: ledger" in run(target, program.format("'--help'"), cwd=tmp_path)


def test_the_installed_command_answers_sql_from_the_files_in_the_wheel(target, tmp_path):
    program = "import sys; from ledger.cli import main; sys.argv = ['ledger', {}]; main()"
    run(target, program.format("'new', 'How many?'"), cwd=tmp_path)
    answer = run(target, program.format("'sql', 'SELECT question FROM sessions', '--format', 'csv'"), cwd=tmp_path)
    assert answer.splitlines() == ["question", "How many?"]
