"""Time to import the package and to start the command, without the time in which the interpreter starts.

``python benchmarks/startup.py`` prints medians of 15 alternating runs; it exits with 1 if a target is missed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import ledger": [sys.executable, "-c", "import ledger"],
    "from ledger import SessionLedger": [sys.executable, "-c", "from ledger import SessionLedger"],
    "ledger --help": [str(Path(sys.executable).with_name("ledger")), "--help"],
}
TARGETS_MS = {"import ledger": 60, "ledger --help": 250}


def main() -> int:
    """Print every figure with its target; return 1 if one is missed."""
    spent: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            spent[name].append((time.perf_counter() - begun) * 1000)
    floor = statistics.median(spent.pop("python -c pass"))
    print(f"{'python -c pass':<34} {floor:7.1f} ms")
    met = True
    for name, durations in spent.items():
        beyond = statistics.median(durations) - floor
        target = TARGETS_MS.get(name)
        print(f"{name:<34} {beyond:7.1f} ms beyond", f"(<= {target} ms)" if target else "")
        met = met and (target is None or beyond <= target)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
