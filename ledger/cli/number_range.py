"""Parameter types for numbers."""

from __future__ import annotations

from typing import Any

import click


class NumberRange(click.FloatRange):
    """Parameter type of a float within a range. Unlike ``click.FloatRange``, this type refuses ``nan``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail with a usage error if it is ``nan``, out of range or not a number."""
        number: float = super().convert(value, param, ctx)
        if number != number:
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number
