"""Fixtures of the fault tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

#: Ways to get a mount namespace: as root, and as any other user where the system lets users have namespaces.
WAYS = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])


@pytest.fixture
def unshared(tmp_path: Path) -> list[str]:
    """What a command begins with that may mount file systems; its mount namespace ends with it."""
    for way in WAYS if shutil.which("unshare") else ():
        mount = [*way, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
        if subprocess.run(mount, capture_output=True, timeout=60, check=False).returncode == 0:
            return way
    pytest.skip("no file system may be mounted here")
