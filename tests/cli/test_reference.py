"""docs/cli.md is what the commands say of themselves."""

from __future__ import annotations

from pathlib import Path

from ledger.cli.reference import reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def test_the_cli_reference_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run `make docs`"
