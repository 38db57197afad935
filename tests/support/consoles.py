"""The console blocks of README and docs: they are run, and print what stands below them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What differs from run to run: ids, sizes, days and times.
CHANGING = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[\d,]+(?= bytes)|\d{4}-\d\d-\d\d(?:T[\d:.]+Z)?|\d{8}T\d{6}Z"
)


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """Return the kind and the text of each block of a page."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def environment_in(folder: Path, **settings: str) -> dict[str, str]:
    """Return the environment of a shell whose home is ``folder``, and which finds the ``ledger`` command."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"PATH": path, "HOME": str(folder), "COLUMNS": "120", "LC_ALL": "C.UTF-8", **settings}


def check_commands(texts: list[str], folder: Path, *, place: str = "", **settings: str) -> None:
    """Run the commands of console blocks in one shell, and compare what they print with what stands below them.

    Args:
        texts: The blocks.
        folder: The working directory and the home.
        place: The path that the page has for the working directory; empty if it names none.
        settings: Environment variables.
    """
    script, said = ["set -euo pipefail"], []
    for line in (line for text in texts for line in text.splitlines()):
        if line.startswith("$ "):
            script.append(line[2:].replace(place, str(folder)) if place else line[2:])
        else:
            said.append(line)
    ran = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env=environment_in(folder, **settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    printed = ran.stdout.replace(str(folder), place) if place else ran.stdout
    for got, wanted in zip_longest(printed.splitlines(), said, fillvalue="(no line)"):
        assert CHANGING.sub("ID", got.rstrip()) == CHANGING.sub("ID", wanted), f"{got!r}, and not {wanted!r}"
