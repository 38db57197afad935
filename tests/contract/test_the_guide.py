"""docs/writing-a-store.md: its test module runs as it stands, and its table knows every capability."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import ledger.testing
from ledger.stores.base import Capabilities
from ledger.testing import StoreContract

GUIDE = Path(__file__).parents[2] / "docs" / "writing-a-store.md"


def test_the_guides_test_module_runs_every_test_and_skips_none(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    ((kind, module),) = blocks
    assert kind == "python"
    (tmp_path / "test_my_store.py").write_text(module, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    machine = 1
    count = sum(name.startswith("test_") for name in dir(StoreContract)) + machine
    assert re.fullmatch(rf"{count} passed in .*", done.stdout.splitlines()[-1]), done.stdout + done.stderr


def test_the_guide_tells_of_every_capability_and_public_name() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [field.name for field in fields(Capabilities)]
    assert [name for name in ledger.testing.__all__ if f"`{name}`" not in text] == []
