"""What a deep check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from ledger.cli.doctor.deep.scratch import Scratch

AS_ASSUMED: Outcome = "as assumed"
DIFFERS: Outcome = "differs"
UNKNOWN: Outcome = "could not be told"
Outcome = Literal["as assumed", "differs", "could not be told"]


class Observed(NamedTuple):
    """What a check observed.

    Attributes:
        outcome: The comparison with the assumption. ``differs`` also if BigQuery is kinder than assumed.
        detail: The observation, with its figures.
    """

    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True)
class Check:
    """One experiment on BigQuery.

    Attributes:
        name: A few words, unique.
        assumed: The behaviour that the code is written for.
        module: The file that assumes it, in the repository.
        source: Where the behaviour is described or was seen; no manual settles it.
        megabytes: Upper estimate of what its statements bill, in MB.
        run: The experiment.
    """

    name: str
    assumed: str
    module: str
    source: str
    megabytes: int
    run: Callable[[Scratch], Observed]


class Result(NamedTuple):
    """A check and what it observed."""

    check: Check
    observed: Observed


def compared(holds: bool, detail: str) -> Observed:
    """Return an observation that is as assumed if ``holds`` is true, and otherwise differs."""
    return Observed(AS_ASSUMED if holds else DIFFERS, detail)
