"""Fixtures of the fault tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def unshared(tmp_path: Path) -> list[str]:
    """What a command begins with that may mount file systems; its mount namespace ends with it."""
    own = ["unshare", "--mount"]
    mount = [*own, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(mount, capture_output=True, timeout=60).returncode:
        pytest.skip("no file system may be mounted here")
    return own
