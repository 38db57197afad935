"""The type of a command-line option that takes a number within a range."""

from __future__ import annotations

from typing import Any

import click


class NumberRange(click.FloatRange):
    """A number within a range; ``nan`` is in none, though click, which only asks whether it is outside, takes it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number as typed."""
        found: float = super().convert(value, param, ctx)
        if found != found:
            self.fail(f"{value!r} is not a number.", param, ctx)
        return found
