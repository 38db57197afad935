"""The wheel without extras in an environment of its own: what works there, and what names the extra that it needs.

The environment is a new venv that holds the unpacked wheel and links to the packages that the wheel's metadata
requires, directly or indirectly, as they are installed here. pip would need an index, or wheels of all of them, to
install from; links need no network, and every run has the versions of the lock.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import venv
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from packaging.requirements import Requirement

from ledger.cli.app import COMMANDS

if TYPE_CHECKING:
    from support.emulator import Emulator

ROOT = Path(__file__).resolve().parents[2]
#: More than this, in MB, is not small: a package came with something that is not needed, or a dependency was added.
LARGEST = 40
ANALYTICS = 'in the checkout: pip install ".[analytics]"'
CHARTS = 'in the checkout: pip install ".[charts]"'
BIGQUERY = 'in the checkout: pip install ".[bigquery]"'
MIGRATE = 'in the checkout: pip install ".[migrate]"'
TESTING = 'in the checkout: pip install ".[testing]"'
MISSING_EXTRA = 13
#: Folders that several distributions share are not deeper than this: google/cloud/bigquery.
DEPTH = 3

#: Every command that needs no extra; {sid} and {other} are sessions, {chat} is a chat.
WORKING = [
    "init",
    "set {sid} summary Orders-peaked",
    "message {sid} assistant Orders-peaked --id m1",
    "tool {sid} trend pending",
    "tag {sid} weekly",
    "score {sid} quality 5",
    "model-call {sid} gemini-2.5-flash --input-tokens 5",
    "tool-calls {sid}",
    "report --session {sid} --out session.html",
    "remove-message {sid} m1",
    "grant {sid} bob read",
    "revoke {sid} bob",
    "extend {sid}",
    "show {sid}",
    "show {sid} --version 1 --json",
    "list",
    "search peaked",
    "count status",
    "history {sid}",
    "diff {sid} 1 2",
    "fork {sid} --id forked",
    "compare {sid} forked",
    "rewind {sid} 2",
    "replay {sid}",
    "tail",
    "complete {sid}",
    "fail {other} broken",
    "delete {other}",
    "restore {other}",
    "expire {other}",
    "status",
    "status --json",
    "warehouse list",
    "completion bash",
    "relay refused",
    "relay retry",
    "maintain",
    "export --output out.jsonl",
    "export --format openai-chat --output runs.jsonl",
    "export --format otel --output spans.jsonl",
    "import out.jsonl",
    "backup copy.db",
    "seal --output l.seal",
    "seals",
    "verify --against l.seal",
    "chat-init",
    "query books --session-id {chat}",
    "chat-history {chat}",
    "chat-cleanup",
    "archive {chat}",
    "hydrate {chat}",
    "purge {other}",
    "warehouse list",
    "completion bash",
    "restore-backup copy.db",
    "demo",
    "demo --json",
    "doctor",
    "doctor --json",
    "schema",
    "chart",
    "prices",
    "prices export --output prices.csv",
    "prices import prices.csv --replace",
    "cost",
    "sql --estimate 'SELECT * FROM sessions'",
    "schema tool_calls --json",
    "--help",
    "--version",
]
#: Every command that needs an extra, and what it says to type.
FAILING = {
    "sql 'SELECT * FROM sessions'": ANALYTICS,
    "export --view messages": ANALYTICS,
    "export --format parquet --output out": ANALYTICS,
    "import --format parquet copy.db": ANALYTICS,
    "stats": ANALYTICS,
    "chart tool_usage --out chart.png": CHARTS,
    "report --out report.html": CHARTS,
    "refresh": ANALYTICS,
    "sync": ANALYTICS,
    "relay": ANALYTICS,
    "reconcile": ANALYTICS,
    "hydrate nowhere --warehouse duckdb:///other.duckdb": ANALYTICS,
    "import-store chat-store chats.db": MIGRATE,
    "list --url bigquery://project/dataset": BIGQUERY,
    "init --url bigquery://project/dataset": BIGQUERY,
    "deploy --url bigquery://project/dataset": BIGQUERY,
    "sync --warehouse bigquery://project/dataset": BIGQUERY,
    "security --url bigquery://project/dataset": BIGQUERY,
    "demo --emulator": BIGQUERY,
    "emulator": BIGQUERY,
    "doctor --deep --yes --warehouse bigquery://project/dataset": BIGQUERY,
}
#: Modules that load an extra's package themselves. They are imported by what asked for the extra before.
OF_AN_EXTRA = re.compile(
    r"ledger\.(analytics\.charts\.(activity|calls|findings|latency|sessions|style)|stores\.bigquery\.(append|ingest|store)"
    r"|warehouse\.(arrow_rows|statement|syntax|bigquery\.(?!settings|locks|retries)\w+|duckdb\.(aggregates|argument_types|datetimes|dialect|forms|functions|grammar|instants|json_values|kinds|names|pivots|rules|scopes|subscripts|times"
    r"|translations|zones))"
    r"|cli\.doctor\.deep\.(examination|scratch|statements|streams|values)"
    r"|testing(\.\w+)?)"
)

# Runs in the bare environment: commands from stdin, one after another, in one process.
RUN_COMMANDS = """
import json, shlex, sys
from click.testing import CliRunner
from ledger.cli.app import ledger
names, answers = {}, {}
def run(line):
    return CliRunner().invoke(ledger, shlex.split(line.format(**names)), prog_name="ledger")
for name in ("sid", "other"):
    names[name] = run("new How-many?").stdout.strip()
names["chat"] = json.loads(run("chat-init --json").stdout)["session_id"]
for line in json.load(sys.stdin):
    done = run(line)
    ended = done.exception is None or isinstance(done.exception, SystemExit)
    answers[line] = [done.exit_code if ended else repr(done.exception), done.stdout, done.stderr]
print(json.dumps(answers))
"""
IMPORT_MODULES = """
import importlib, pkgutil, ledger
for module in pkgutil.walk_packages(ledger.__path__, "ledger.", onerror=lambda name: None):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        print(module.name, type(error).__name__, error.name)
"""


class Environment(NamedTuple):
    """An environment that the wheel is installed in."""

    python: Path
    packages: Path

    def run(self, program: str, cwd: Path, given: str = "", **settings: str) -> str:
        """What a program prints there."""
        done = subprocess.run(
            [str(self.python), "-c", program],
            cwd=cwd,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(cwd), "LEDGER_USER": "ada", "COLUMNS": "120", **settings},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


class Answer(NamedTuple):
    exit_code: int | str
    out: str
    err: str


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return installed(wheel, tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def answers(bare: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    lines = json.dumps([*WORKING, *FAILING])
    printed: dict[str, Any] = json.loads(bare.run(RUN_COMMANDS, tmp_path_factory.mktemp("commands"), lines))
    return {line: Answer(*answer) for line, answer in printed.items()}


def installed(wheel: Path, folder: Path, *extras: str) -> Environment:
    """A new environment with the wheel, and what it requires without extras or with these."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A pure wheel's files are laid out as they are imported.
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    for name in required(packages, extras):
        for part, place in parts(name).items():
            (packages / part).parent.mkdir(parents=True, exist_ok=True)
            (packages / part).symlink_to(place)
    return Environment(folder / "bin" / "python", packages)


def required(packages: Path, extras: Sequence[str]) -> set[str]:
    """What the wheel in a folder requires with these extras, directly or indirectly."""
    (own,) = metadata.distributions(name="session-ledger", path=[str(packages)])
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [(text, ("", *extras)) for text in own.requires or ()]
    while waiting:
        text, asked = waiting.pop()
        needed = Requirement(text)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in asked):
            found.add(needed.name)
            further = str(needed.name), ("", *sorted(needed.extras))
            if str(further) not in seen:
                seen.add(str(further))
                waiting += [(each, further[1]) for each in metadata.requires(needed.name) or ()]
    return found


@cache
def owners() -> dict[str, set[str]]:
    """The files and upper folders of site-packages, with the distributions that they are of."""
    found: dict[str, set[str]] = defaultdict(set)
    for distribution in metadata.distributions():
        name = distribution.name
        for file in files_of(distribution):
            for depth in range(1, DEPTH + 1):
                found["/".join(file.split("/")[:depth])].add(name)
    return found


def files_of(distribution: metadata.Distribution) -> list[str]:
    return [line.split(",")[0] for line in (distribution.read_text("RECORD") or "").splitlines()]


def parts(name: str) -> dict[str, Path]:
    """The upper folders of a distribution that are of no other, such as google/auth, and its other files."""
    distribution = metadata.distribution(name)
    found: dict[str, Path] = {}
    for file in files_of(distribution):
        if not file.startswith(".."):  # commands
            uppers = ("/".join(file.split("/")[:depth]) for depth in range(1, DEPTH + 1))
            part = next((upper for upper in uppers if len(owners()[upper]) == 1), file)
            found[part] = Path(str(distribution.locate_file(part)))
    return found


def megabytes(folder: Path) -> float:
    """What the files in a folder take, links followed, without what Python compiles."""
    walked = os.walk(folder, followlinks=True)
    files = [Path(at) / name for at, _, names in walked if not at.endswith("__pycache__") for name in names]
    return sum(file.stat().st_size for file in files) / 1e6


def test_the_bare_installation_is_small(bare: Environment) -> None:
    size = megabytes(bare.packages)
    print(f"session-ledger without extras takes {size:.1f} MB")
    assert size < LARGEST


def test_the_bare_installation_has_no_package_of_an_extra(bare: Environment) -> None:
    there = {path.name for path in bare.packages.iterdir()}
    assert not there & {"google", "grpc", "duckdb", "pandas", "numpy", "pyarrow", "sqlglot", "sqlalchemy", "pytest"}


def test_the_readmes_first_example_runs_without_extras(bare: Environment, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert found is not None
    said = re.findall(r"^ *print\(.*\)  # (.*)$", found[1], re.MULTILINE)
    assert said
    assert bare.run(found[1], tmp_path).splitlines() == said


def test_every_command_is_run_without_extras() -> None:
    assert {"new", *(line.split()[0] for line in (*WORKING, *FAILING))} >= COMMANDS.keys()


@pytest.mark.parametrize("line", WORKING)
def test_a_command_that_needs_no_extra_works(answers: dict[str, Answer], line: str) -> None:
    assert answers[line].exit_code == 0, answers[line]


@pytest.mark.parametrize(("line", "typed"), FAILING.items())
def test_a_command_that_needs_an_extra_says_what_to_type(answers: dict[str, Answer], line: str, typed: str) -> None:
    code, _, err = answers[line]
    assert (code, len(err.splitlines())) == (MISSING_EXTRA, 1)
    assert err.startswith("error: ")
    assert err.endswith(f"{typed} (missing_extra)\n")


def test_the_demo_shows_all_but_sql_and_says_what_to_type(answers: dict[str, Answer]) -> None:
    shown = answers["demo"].out
    assert [number for number in "12345" if f"\n{number}  " in shown] == list("12345")
    assert [line for line in shown.splitlines() if ANALYTICS in line] != []
    assert "DIFFERENT" not in shown
    found = json.loads(answers["demo --json"].out)
    assert (found["session"]["status"], found["checks"]) == ("completed", [])
    assert ANALYTICS in found["not_checked"]


def test_the_doctor_notes_the_extras_that_are_not_installed(answers: dict[str, Answer]) -> None:
    found = json.loads(answers["doctor --json"].out)
    extras = {each["what"]: each for each in found["findings"] if each["what"].startswith("extra ")}
    assert found["healthy"]
    assert {each["status"] for each in extras.values()} == {"note"}
    assert extras["extra analytics"]["remedy"] == ANALYTICS
    assert extras["extra bigquery"]["remedy"] == BIGQUERY


@pytest.mark.parametrize(
    ("setting", "url", "extra"),
    [
        ("LEDGER_URL", "bigquery://project/dataset", "bigquery"),
        ("LEDGER_WAREHOUSE", "bigquery://project/dataset", "bigquery"),
        ("LEDGER_WAREHOUSE", "duckdb:///a.duckdb", "analytics"),
    ],
)
def test_the_doctor_calls_an_extra_a_problem_where_a_url_needs_it(
    bare: Environment, tmp_path: Path, setting: str, url: str, extra: str
) -> None:
    program = f"""
import os
os.environ[{setting!r}] = {url!r}
from ledger.cli.doctor.command import examine
for finding in examine(os.environ.get("LEDGER_URL"), os.environ):
    if finding.what.startswith("extra ") and finding.status == "problem":
        print(finding.what, finding.remedy)
"""
    assert bare.run(program, tmp_path) == f'extra {extra} in the checkout: pip install ".[{extra}]"\n'


def test_a_method_that_needs_an_extra_raises_missing_extra(bare: Environment, tmp_path: Path) -> None:
    program = """
import ledger
from ledger import SessionLedger

def tried(call):
    try:
        print("nothing", call())
    except ledger.MissingExtra as error:
        print(error)

tried(lambda: SessionLedger.open("bigquery://project/dataset"))
tried(lambda: SessionLedger.open("sqlite:///a.db", warehouse="duckdb:///a.duckdb", relay="background"))
tried(lambda: SessionLedger.open("sqlite:///a.db", warehouse="bigquery://project/dataset", relay="background"))
with SessionLedger.open("sqlite:///a.db", warehouse="duckdb:///a.duckdb") as opened:
    sid = opened.create_session("ada", "How many?")
    tried(lambda: opened.warehouse.query("SELECT 1"))
    tried(opened.warehouse.sync)
    tried(lambda: opened.get_session("elsewhere"))
    assert opened.get_session(sid).question == "How many?"
    print(opened.warehouse.status().waiting_rows > 0)
def contract():
    import ledger.testing
tried(contract)
"""
    said = bare.run(program, tmp_path).splitlines()
    ends = [BIGQUERY, ANALYTICS, BIGQUERY, ANALYTICS, ANALYTICS, ANALYTICS, "True", TESTING]
    assert [line.endswith(end) for line, end in zip(said, ends, strict=True)] == [True] * len(ends), said


def test_only_modules_of_an_extra_need_it_to_be_imported(bare: Environment, tmp_path: Path) -> None:
    lines = [line.split() for line in bare.run(IMPORT_MODULES, tmp_path).splitlines()]
    assert lines
    assert [line for line in lines if not OF_AN_EXTRA.fullmatch(line[0])] == []


def test_sql_on_this_machine_needs_the_extra_analytics_alone(wheel: Path, tmp_path: Path) -> None:
    analytics = installed(wheel, tmp_path / "analytics", "analytics")
    assert not (analytics.packages / "google").exists()
    lines = ["demo --json", "sql 'SELECT question FROM sessions ORDER BY created_at' --format csv", "sync", "reconcile"]
    found = json.loads(analytics.run(RUN_COMMANDS, tmp_path, json.dumps(lines)))
    assert [answer[0] for answer in found.values()] == [0] * len(lines), found
    assert [check["same"] for check in json.loads(found[lines[0]][1])["checks"]] == [True, True, True]
    assert found[lines[1]][1].splitlines()[:2] == ["question", "How-many?"]


def test_a_ledger_in_bigquery_needs_the_extra_bigquery_alone(wheel: Path, tmp_path: Path, emulator: Emulator) -> None:
    from support.bigquery_stores import environment

    bigquery = installed(wheel, tmp_path / "bigquery", "bigquery")
    assert not any((bigquery.packages / name).exists() for name in ("duckdb", "pandas"))
    dataset = f"bare_{tmp_path.name}"[:60].replace("-", "_")
    program = f"""
from ledger import SessionLedger
from ledger.cli.commands.dataset import create
with SessionLedger.open("bigquery://{emulator.project}/{dataset}") as ledger:
    create(ledger.store.warehouse)
    sid = ledger.create_session("ada", "How many?")
    print(ledger.get_session(sid).question)
    sql = "SELECT question FROM sessions WHERE created_at >= TIMESTAMP '2020-01-01'"
    print(ledger.store.warehouse.query(sql).rows)
with SessionLedger.open("sqlite:///a.db", warehouse="bigquery://{emulator.project}/{dataset}") as ledger:
    ledger.create_session("ada", "How much?")
    print(ledger.warehouse.sync())
"""
    settings = environment(emulator)
    said = bigquery.run(program, tmp_path, **settings).splitlines()
    assert said == ["How many?", "[('How many?',)]", "2"]
