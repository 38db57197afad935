"""The pages of docs/ that are generated are those of the code: commands, settings, fields."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.cli.reference import PAGES

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"
