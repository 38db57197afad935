"""pytest plugin that records which lines of ``ledger/`` each test runs, and how long the test takes.

``tools/mutants.py`` loads it with ``-p executed_lines``. Lines that a child process runs are not recorded.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

_ROOT = f"{Path.cwd()}{os.sep}"
_PREFIX = f"{_ROOT}ledger{os.sep}"
_TOOL = sys.monitoring.COVERAGE_ID
_lines: set[tuple[str, int]] = set()
_by_test: dict[str, tuple[float, dict[str, list[int]]]] = {}
_failed: set[str] = set()


def _line(code: CodeType, line: int) -> Any:
    if code.co_filename.startswith(_PREFIX):
        _lines.add((code.co_filename[len(_ROOT) :], line))
    return sys.monitoring.DISABLE


def pytest_configure() -> None:
    sys.monitoring.use_tool_id(_TOOL, "executed_lines")
    sys.monitoring.register_callback(_TOOL, sys.monitoring.events.LINE, _line)
    sys.monitoring.set_events(_TOOL, sys.monitoring.events.LINE)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _lines.clear()
    sys.monitoring.restart_events()
    started = time.monotonic()
    result = yield
    files: dict[str, list[int]] = defaultdict(list)
    for name, line in sorted(_lines.copy()):
        files[name].append(line)
    _by_test[item.nodeid] = time.monotonic() - started, files
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:  # it says nothing about a mutant
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    sys.monitoring.set_events(_TOOL, 0)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None and _by_test == {}:  # the process that hands tests out to workers
        return
    passed = {test: found for test, found in _by_test.items() if test not in _failed}
    Path(os.environ["EXECUTED_LINES"], f"{worker or 'main'}.json").write_text(json.dumps(passed), "utf-8")
