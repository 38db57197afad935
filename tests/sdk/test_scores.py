"""Scores: a finite number, a boolean or text, which can be averaged and compared."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ledger import InvalidInput, SessionLedger


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (0.9, 0.9),
        (True, True),
        ("good", "good"),
        (Decimal("0.7"), 0.7),
        (Decimal("3.00"), 3),
        (Decimal(2**53 + 1), 2**53 + 1),
        (np.float32(0.5), 0.5),
        (np.int64(4), 4),
    ],
)
def test_a_score_is_a_number_a_boolean_or_text(ledger: SessionLedger, sid: str, value: Any, recorded: Any) -> None:
    ledger.add_score(sid, "accuracy", value, score_id="one")
    found = ledger.require_session(sid).scores["one"]["value"]
    assert (type(found), found) == (type(recorded), recorded)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [0.9],
        {"accuracy": 0.9},
        float("nan"),
        float("-inf"),
        np.float64("nan"),
        np.float32("nan"),
        Decimal("NaN"),
        Decimal("1e400"),
        pytest.param(object(), id="an object"),
    ],
    ids=repr,
)
def test_any_other_value_is_no_score(ledger: SessionLedger, sid: str, value: Any) -> None:
    version = ledger.require_session(sid).version
    with pytest.raises(InvalidInput, match=r"^score\['one'\]\.value"):
        ledger.add_score(sid, "accuracy", value, score_id="one")
    assert ledger.require_session(sid).version == version


def test_strict_values_converts_no_decimal_of_a_score(tmp_path: Path) -> None:
    with SessionLedger(f"sqlite:///{tmp_path}/l.db", strict_values=True) as ledger:
        sid = ledger.create_session("ada")
        with pytest.raises(InvalidInput, match=r"decimal\.Decimal, which is no JSON value"):
            ledger.add_score(sid, "accuracy", Decimal("0.7"))
