"""Programs of the checkout that are no package, as modules."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def module(path: Path) -> Any:
    """The module in a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made
