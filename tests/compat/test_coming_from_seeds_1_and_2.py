"""The tables of docs/coming-from name tests that there are, and every test of a seed is named there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"seed1.md": "test_seed1_session_states.py", "seed2.md": "test_seed2_chat_store.py"}


def defined_in(name: str) -> set[str]:
    source = (ROOT / "tests" / "compat" / name).read_text(encoding="utf-8")
    return set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))


@pytest.mark.parametrize(("page", "module"), PAGES.items())
def test_the_table_of_a_seed_names_its_tests(page: str, module: str) -> None:
    lines = (ROOT / "docs" / "coming-from" / page).read_text(encoding="utf-8").splitlines()
    named = {name for line in lines for name in re.findall(r"`(test_\w+)`", line.rpartition(" | ")[2])}
    assert named <= defined_in(module) | defined_in("test_importing.py")
    assert defined_in(module) <= named
