"""The mutations of `make mutants`: each is one small change that compiles, and guards are those before a raise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SOURCE = '''
def take(rows, limit, *, strict=False):
    """Docstrings stay."""
    if not rows or limit < 1:
        raise ValueError("é")
    log.info("not seen")
    kept = rows[:limit]
    rows.clear()
    return max(len(kept), 2) if strict else None
'''


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "tools")
    import mutation

    (tmp_path / "m.py").write_text(SOURCE, "utf-8")

    def changed(*, guards: bool) -> set[tuple[str, str]]:
        """The kind of each mutant, and its line as it is changed."""
        before = SOURCE.encode().splitlines()
        made = set()
        for mutant in mutation.mutants_of(tmp_path, "m.py", guards=guards):
            assert mutation.compiles(mutant)
            after = mutant.apply().splitlines()
            (line,) = [new for old, new in zip(before, after, strict=True) if old != new]
            made.add((mutant.kind, line.decode().strip()))
        return made

    return changed


def test_every_kind_of_change_is_made_where_it_can_be(found):
    assert found(guards=False) == {
        ("constant", "def take(rows, limit, *, strict=True):"),
        ("and/or", "if not rows and limit < 1:"),
        ("not removed", "if (rows) or limit < 1:"),
        ("comparison", "if not rows or limit <= 1:"),
        ("constant", "if not rows or limit < (1 + 1):"),
        ("constant", "if not rows or limit < (1 - 1):"),
        ("if body removed", "pass"),
        ("slice removed", "kept = rows"),
        ("statement removed", "pass"),
        ("return value", "return None"),
        ("condition always true", "return (max(len(kept), 2))"),
        ("condition always false", "return (None)"),
        ("min/max", "return min(len(kept), 2) if strict else None"),
        ("constant", "return max(len(kept), (2 + 1)) if strict else None"),
        ("constant", "return max(len(kept), (2 - 1)) if strict else None"),
    }


def test_a_guard_loses_its_body_or_one_of_its_conditions(found):
    assert found(guards=True) == {
        ("if body removed", "pass"),
        ("condition removed", "if False or limit < 1:"),
        ("condition removed", "if not rows or False:"),
    }
