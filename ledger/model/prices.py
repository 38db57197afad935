"""Prices of language models, which the user supplies: by provider, model and the day from which they hold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from ledger.errors import InvalidInput
from ledger.model.values import check_text, full_name

#: The largest price that is taken, in US dollars per million tokens: a dollar for a token.
MAXIMUM = 1_000_000.0


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """The prices of a model from a day on, in US dollars per million tokens.

    They hold until the next ``valid_from`` of the same provider and model.

    Attributes:
        model: The model, as the model calls name it.
        valid_from: The first day, in UTC.
        input_usd_per_million: Price of input tokens.
        output_usd_per_million: Price of output tokens; 0 for models without output tokens, such as embeddings.
        cached_input_usd_per_million: Price of the input tokens that came from a cache; None if it is the same as of
            other input tokens.
        provider: Who serves the model. If empty, the prices hold for calls of each provider without prices of its own,
            and for calls without a provider.

    Raises:
        InvalidInput: A name is empty or longer than 255 characters, or a price is not a number from 0 to a million.
    """

    model: str
    valid_from: date
    input_usd_per_million: float
    output_usd_per_million: float
    cached_input_usd_per_million: float | None = None
    provider: str = ""

    def __post_init__(self) -> None:
        check_text(self.model, "model")
        if self.provider != "":
            check_text(self.provider, "provider")
        if not isinstance(self.valid_from, date) or isinstance(self.valid_from, datetime):
            raise InvalidInput(f"valid_from is a {full_name(self.valid_from)}; it must be a date such as 2026-11-30.")
        for name in ("input_usd_per_million", "output_usd_per_million", "cached_input_usd_per_million"):
            price = getattr(self, name)
            if price is None and name == "cached_input_usd_per_million":
                continue
            if isinstance(price, bool) or not isinstance(price, int | float):
                raise InvalidInput(f"{name} is a {full_name(price)}; it must be a number.")
            if not (math.isfinite(price) and 0 <= price <= MAXIMUM):
                raise InvalidInput(f"{name} is {price}; it must be from 0 to {MAXIMUM:,.0f} US dollars.")
            object.__setattr__(self, name, float(price))

    @property
    def key(self) -> tuple[str, str, date]:
        """What identifies the prices: model, provider and first day."""
        return self.model, self.provider, self.valid_from


def merged(known: Iterable[ModelPrice], added: Iterable[ModelPrice]) -> list[ModelPrice]:
    """Return a price list to which prices were added, sorted; an added one replaces the known one of its key.

    Raises:
        InvalidInput: Two of the added prices have the same key.
    """
    new: dict[tuple[str, str, date], ModelPrice] = {}
    for price in added:
        if price.key in new:
            of = f" of {price.provider}" if price.provider else ""
            raise InvalidInput(f"There are two prices of {price.model}{of} from {price.valid_from} on; remove one.")
        new[price.key] = price
    return [price for _, price in sorted(({it.key: it for it in known} | new).items())]
