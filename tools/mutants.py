"""Change the code a little, many times, and see whether a test notices.

    python tools/mutants.py map                              # once: which test runs which line
    python tools/mutants.py run --count 120 --seed 1         # a sample of mutants of ledger/
    python tools/mutants.py run --guards --count 60          # guards before something irreversible
    python tools/mutants.py run --modules 'ledger/relay/*' --count 0      # every mutant of some modules

Each mutant is one change of one line: a comparison, a constant, a removed ``not``, condition, body, slice or statement.
The tests that run the line are run against it, the quickest first, until one fails. Everything happens in copies of
the checkout, one for each worker; the checkout itself is never changed. Survivors are printed with the line that was
changed: either the change makes no difference, or a test is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from mutation import Mutant, compiles, mutants_of

ROOT = Path(__file__).resolve().parent.parent
MAP = ROOT / ".mutants.json"
#: Modules in which a guard stands before something that cannot be undone, or that others rely on: rows that are
#: dropped, deleted or acknowledged, leases, and who may do what.
GUARDED = (
    "ledger/stores/checks.py",
    "ledger/stores/rights.py",
    "ledger/stores/user_view.py",
    "ledger/stores/sqlite/*.py",
    "ledger/relay/*.py",
    "ledger/tiers/*.py",
    "ledger/warehouse/duckdb/sink.py",
    "ledger/warehouse/bigquery/sink.py",
    "ledger/warehouse/bigquery/streams.py",
    "ledger/sdk/archive.py",
    "ledger/sdk/lifecycle.py",
)
#: Arguments of pytest for a map of all tests.
ALL_TESTS = "-m 'not remote and not slow'"
#: The map of tests: how long each test takes, and the lines that it runs, by file.
Recorded = dict[str, tuple[float, dict[str, list[int]]]]


class Test(NamedTuple):
    seconds: float
    name: str


class Outcome(NamedTuple):
    mutant: Mutant
    verdict: str
    tests: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    record = commands.add_parser("map", help="record which tests run which lines")
    record.add_argument("--pytest", default=ALL_TESTS, help="arguments of pytest; tests are then added to the map")
    record.set_defaults(call=record_map)
    run = commands.add_parser("run", help="run tests against mutants")
    run.add_argument("--modules", nargs="+", default=None, help="globs of modules, by default all of ledger/")
    run.add_argument(
        "--guards", action="store_true", help="only guards, by default of modules that drop or acknowledge"
    )
    run.add_argument("--count", type=int, default=60, help="size of the sample; 0 for all mutants")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--limit", type=float, default=120.0, help="seconds for the tests of one mutant")
    run.add_argument("--budget", type=float, default=60.0, help="seconds that the tests of one mutant take by the map")
    run.add_argument("--strict", action="store_true", help="exit with 1 if a mutant survives")
    run.set_defaults(call=run_mutants)
    for command in (record, run):
        command.add_argument("--workers", type=int, default=int(os.environ.get("WORKERS", "2")))
    arguments = parser.parse_args()
    sys.exit(arguments.call(arguments))


def record_map(arguments: argparse.Namespace) -> int:
    """Run tests in a copy of the checkout, and add to the map which of them runs which line."""
    with _copy() as copy, tempfile.TemporaryDirectory() as found:
        process = _pytest(copy, ["-n", str(arguments.workers), "-p", "executed_lines", *shlex.split(arguments.pytest)])
        process.env["EXECUTED_LINES"] = found
        code = subprocess.call(process.command, cwd=copy, env=process.env)
        tests = {
            name: test for path in Path(found).iterdir() for name, test in json.loads(path.read_text("utf-8")).items()
        }
    files = {_file_of(name) for name in tests}
    adds = MAP.exists() and arguments.pytest != ALL_TESTS
    before = json.loads(MAP.read_text("utf-8")) if adds else {"sources": {}, "tests": {}}
    kept = {name: test for name, test in before["tests"].items() if _file_of(name) not in files}
    MAP.write_text(json.dumps({"sources": _digests() | before["sources"], "tests": kept | tests}), "utf-8")
    print(f"{len(tests)} tests passed and are in {MAP.name}. Tests that failed are left out of it.")
    return 0 if tests else code


def run_mutants(arguments: argparse.Namespace) -> int:
    """Run the tests of a sample of mutants, and print the survivors."""
    if not MAP.exists():
        sys.exit("There is no map of tests; make it with: make mutants-map")
    globs = arguments.modules or (GUARDED if arguments.guards else ["ledger/**/*.py"])
    paths = sorted({str(path.relative_to(ROOT)) for glob in globs for path in ROOT.glob(glob) if path.suffix == ".py"})
    paths = [path for path in paths if not path.startswith("ledger/testing/")]
    mutants = [mutant for path in paths for mutant in mutants_of(ROOT, path, guards=arguments.guards)]
    total = len(mutants)
    random.Random(arguments.seed).shuffle(mutants)  # noqa: S311
    mutants = list(itertools.islice(filter(compiles, mutants), arguments.count or None))
    print(f"{len(mutants)} of {total} mutants in {len(paths)} modules, seed {arguments.seed}", flush=True)
    counts: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(_copy()) for _ in range(arguments.workers)]
        copies: SimpleQueue[Path] = SimpleQueue()
        for folder in folders:
            copies.put(folder)
        recorded = json.loads(MAP.read_text("utf-8"))
        changed = {path for path, digest in _digests().items() if recorded["sources"].get(path) != digest}
        tests = _Tests(_current(recorded["tests"], folders[0]), changed, arguments.budget)
        with ThreadPoolExecutor(arguments.workers) as pool:
            for outcome in pool.map(lambda mutant: _judge(mutant, tests, copies, arguments.limit), mutants):
                counts[outcome.verdict] += 1
                _tell(outcome, sum(counts.values()))
    print(", ".join(f"{verdict} {count}" for verdict, count in sorted(counts.items())))
    return int(arguments.strict and bool(counts["survived"] or counts["not run"]))


def _digests() -> dict[str, str]:
    return {str(path.relative_to(ROOT)): sha256(path.read_bytes()).hexdigest() for path in ROOT.glob("ledger/**/*.py")}


def _file_of(test: str) -> str:
    return test.partition("::")[0]


def _current(recorded: Recorded, copy: Path) -> Recorded:
    """Return the tests of the map that still exist: pytest refuses to run if it does not find one."""
    process = _pytest(copy, ["--collect-only", "-p", "no:cacheprovider"])
    listed = subprocess.run(process.command, cwd=copy, env=process.env, stdout=subprocess.PIPE, text=True, check=True)
    names = set(listed.stdout.splitlines())
    return {name: test for name, test in recorded.items() if name in names}


class _Tests:
    """The tests that run a line, the quickest first.

    Args:
        recorded: The map.
        changed: Modules that were changed since the map was recorded; all tests that use such a module are chosen.
        budget: Tests of a mutant take at most this many seconds by the map. Those of the module's own room come first.
    """

    def __init__(self, recorded: Recorded, changed: set[str], budget: float) -> None:
        self._changed = changed
        self._budget = budget
        self._by_line: dict[tuple[str, int], list[Test]] = {}
        self._by_file: dict[str, list[Test]] = {}
        for name, (seconds, files) in recorded.items():
            for path, lines in files.items():
                self._by_file.setdefault(path, []).append(Test(seconds, name))
                for line in lines:
                    self._by_line.setdefault((path, line), []).append(Test(seconds, name))

    def of(self, mutant: Mutant) -> list[Test]:
        """Return the tests that run the mutant's lines; those that use its module if the lines run at import."""
        lines = range(mutant.line, mutant.last + 1)
        nearest = {test for line in lines for test in self._by_line.get((mutant.path, line), ())}
        tests = set(nearest)
        if (
            mutant.path in self._changed or len(tests) < 2
        ):  # otherwise the line runs at import or in a fixture, for whichever test comes first
            tests.update(self._by_file.get(mutant.path, ()))
        room = f"tests/{mutant.path.split('/')[1].removesuffix('.py')}/"
        chosen, seconds = [], 0.0
        for test in sorted(tests, key=lambda test: (test not in nearest, not test.name.startswith(room), test)):
            if chosen and seconds + test.seconds > self._budget:
                continue
            chosen.append(test)
            seconds += test.seconds
        return sorted(chosen)


def _judge(mutant: Mutant, tests: _Tests, copies: SimpleQueue[Path], limit: float) -> Outcome:
    chosen = tests.of(mutant)
    if not chosen:
        return Outcome(mutant, "not run", 0)
    copy = copies.get()
    try:
        (copy / mutant.path).write_bytes(mutant.apply())
        return Outcome(mutant, _verdict(copy, [test.name for test in chosen], limit), len(chosen))
    finally:
        (copy / mutant.path).write_bytes(mutant.source)
        copies.put(copy)


def _verdict(copy: Path, tests: Sequence[str], limit: float) -> str:
    names = copy / ".mutant-tests"
    names.write_text("\n".join(tests), "utf-8")
    process = _pytest(copy, ["-x", "-p", "no:cacheprovider", "--no-header", "--tb=no", f"@{names}"])
    with subprocess.Popen(
        process.command,
        cwd=copy,
        env=process.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        try:
            code = running.wait(limit)
        except subprocess.TimeoutExpired:
            return "timed out"
        finally:
            with contextlib.suppress(ProcessLookupError):  # its children too
                os.killpg(running.pid, signal.SIGKILL)
    return "survived" if code == 0 else "caught"


def _tell(outcome: Outcome, number: int) -> None:
    mutant = outcome.mutant
    print(
        f"{number:4} {outcome.verdict:9} {mutant.path}:{mutant.line} {mutant.kind} ({outcome.tests} tests)", flush=True
    )
    if outcome.verdict in {"survived", "not run"}:
        before, after = mutant.source.splitlines(), mutant.apply().splitlines()
        first = next(index for index, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1])
        print(f"       - {before[first].decode().strip()}\n       + {after[first].decode().strip()}", flush=True)


class _Process(NamedTuple):
    command: list[str]
    env: dict[str, str]


def _pytest(copy: Path, arguments: Sequence[str]) -> _Process:
    # The editable install names the checkout; PYTHONPATH comes before it, in child processes too.
    env = {**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{copy / 'tools'}", "PYTHONDONTWRITEBYTECODE": "1"}
    return _Process([sys.executable, "-m", "pytest", "-q", *arguments], env)


@contextlib.contextmanager
def _copy() -> Iterator[Path]:
    """Copy the files of the checkout, those that Git does not know yet as well, into a temporary folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, Path(folder) / name)
        yield Path(folder)


if __name__ == "__main__":
    main()
