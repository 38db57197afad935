"""Parameter types for numbers."""

from __future__ import annotations

from typing import Any

import click


class NumberRange(click.FloatRange):
    """A float within a range. Unlike ``click.FloatRange``, it refuses ``nan``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the number, and fail if it is not in the range."""
        number: float = super().convert(value, param, ctx)
        if number != number:
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number
