"""docs/cli.md is what the commands say of themselves, docs/settings.md what the settings do."""

from __future__ import annotations

from pathlib import Path

from ledger.cli.reference import reference, settings_page

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_cli_reference_is_up_to_date() -> None:
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_the_page_of_settings_is_up_to_date() -> None:
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == settings_page(), "run `make docs`"
