"""Interrupt each public method of a ledger at each place in turn; see ``interrupted_methods``. ``make interrupts``.

Each method is tried in a process of its own, so that one in which a thread waits for good is killed, and the next place
is tried in a new one.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faults.interrupted_methods import ERRORS, METHODS, Stage, Wrong, points_of, warm_up


def main() -> int:
    """Run the sweep, or in a process of its own the trials of one method."""
    asked = _arguments()
    if asked.method:
        _work(asked)
        return 0
    started, tried, failures = time.monotonic(), 0, []
    chosen = [name for name in METHODS if not asked.only or name in asked.only]
    for name in chosen:
        made, found = _sweep(name, asked)
        tried += made
        failures += found
        print(f"{name}: {made} places, {len(found)} failures", flush=True)
        for each in found:
            print(f"    {each['error']} at {each['place']}: {each['wrong']}", flush=True)
    took = time.monotonic() - started
    print(f"seed {asked.seed}: {len(chosen)} methods, {tried} places tried, {len(failures)} failures, {took:.0f} s")
    return 1 if failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample")
    parser.add_argument("--share", type=float, default=1.0, help="share of the places that is tried, 0 to 1")
    parser.add_argument("--only", nargs="*", help="names of methods; all if none is given")
    parser.add_argument("--method", help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def _sweep(name: str, asked: argparse.Namespace) -> tuple[int, list[dict[str, str]]]:
    """Try the places of one method; returns how many, and the failures."""
    done, failures = 0, []
    while True:
        command = [sys.executable, "-m", "faults.interrupts", "--method", name, "--skip", str(done)]
        command += ["--seed", str(asked.seed), "--share", str(asked.share)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        told = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        failures += [each for each in told if "wrong" in each]
        begun = [each["begun"] for each in told if "begun" in each]
        if any("ended" in each for each in told):
            return next(each["ended"] for each in told if "ended" in each), failures
        if not begun:
            failures.append({"error": "-", "place": "-", "wrong": run.stderr[-2000:]})
            return done, failures
        done = begun[-1] + 1
        place = next((each["place"] for each in told[-1:] if "place" in each), f"trial {begun[-1]}")
        failures.append({"error": "-", "place": place, "wrong": f"waits for good\n{run.stderr[-6000:]}"})


def _work(asked: argparse.Namespace) -> None:
    method, chance = METHODS[asked.method], random.Random(f"{asked.seed} {asked.method}")
    with tempfile.TemporaryDirectory(prefix="ledger-interrupts-") as folder:
        stage = Stage(Path(folder))
        with warm_up(stage, method) as interrupter:
            points = points_of(stage.places_of(method, interrupter), asked.share, chance)
            trials = [(point, error) for point in points for error in ERRORS.items()]
            struck = 0
            for number, (point, (name, error)) in enumerate(trials):
                if number < asked.skip:
                    continue
                _say(begun=number)
                interrupter.point, interrupter.error = point, error
                try:
                    struck += stage.trial(method, interrupter, lambda place: _say(place=place))
                except Wrong as wrong:
                    struck += 1
                    _say(error=name, place=interrupter.place, wrong=str(wrong))
                    stage.restart()
            try:
                stage.finish()
            except Wrong as wrong:
                _say(error="-", place="at the end", wrong=str(wrong))
            _say(ended=asked.skip + struck)
        stage.close()


def _say(**told: object) -> None:
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    sys.exit(main())
