"""docs/architecture.md draws the order that the layout test holds, and names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ledger.cli.app import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PLANNED = {"analytics", "adapters", "server", "mcp", "console"}


def rooms() -> set[str]:
    package = ROOT / "ledger"
    folders = {path.name for path in package.iterdir() if (path / "__init__.py").exists()}
    return folders | {path.stem for path in package.glob("*.py") if path.stem != "__init__"}


def test_the_drawing_has_every_room_and_no_other():
    drawing = PAGE.split("```text\n")[1].split("```")[0]
    words = {word for line in drawing.splitlines() for word in re.findall(r"[a-z]+", line.split("   ", 0)[0])}
    assert rooms() - {"testing"} <= words
    for planned in PLANNED:
        assert planned in words


def test_the_table_of_rooms_has_every_room_and_no_other():
    table = PAGE.split("| Room | Owns |")[1].split("\n\n")[0]
    named = {name.removesuffix(".py").rstrip("/") for name in re.findall(r"^\| `([\w/.]+)`", table, re.MULTILINE)}
    assert named == rooms()


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md", "docs/upgrading.md", "docs/glossary.md"])
def test_every_file_that_is_named_exists(page):
    text = (ROOT / page).read_text("utf-8")
    named = set(re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|sql|md|toml|yml)|(?:[\w-]+/)+)`", text))
    missing = sorted(name for name in named if not any((base / name).exists() for base in (ROOT, ROOT / "ledger")))
    assert not missing, f"{page} names {missing}"
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / page).parent / link).exists(), link


def test_the_table_of_commands_has_every_command_in_its_module():
    table = PAGE.split("### Commands by module")[1]
    listed = {
        command: module
        for module, commands in re.findall(r"^\| `(\w+)` \| (`.*`) \|$", table, re.MULTILINE)
        for command in re.findall(r"`([\w-]+)`", commands)
    }
    assert listed.keys() == set(COMMANDS) - {"demo", "doctor"}
    for command, module in listed.items():
        text = (ROOT / "ledger" / "cli" / "commands" / f"{module}.py").read_text("utf-8")
        assert f'"{command}"' in text, f"{command} is not in {module}"
