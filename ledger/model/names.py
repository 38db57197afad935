"""Misspelt names: which of the known names a user may have meant."""

from __future__ import annotations

from collections.abc import Iterable

from ledger.errors import InvalidInput


def similar(name: str, known: Iterable[str]) -> list[str]:
    """Return at most three names that are similar to a name, the most similar first."""
    import difflib  # only if a name is misspelt

    by_lower = {each.lower(): each for each in known}
    lower = name.lower()
    near = difflib.get_close_matches(lower, by_lower, n=3, cutoff=0.7)
    near += [
        each
        for each in by_lower
        if each not in near and lower and (lower in each.split("_") or (len(each) > 2 and each in lower))
    ]
    return [by_lower[each] for each in near[:3]]


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return a sentence that suggests similar names; ``otherwise`` if no name is similar."""
    near = similar(name, known)
    return f"Did you mean {' or '.join(near)}?" if near else otherwise


def unknown(what: str, name: str, known: Iterable[str], otherwise: str = "") -> InvalidInput:
    """Return the error for a name that does not exist; its message suggests similar names.

    Args:
        what: What the name should be, for example ``column``.
        name: The name.
        known: All names that exist.
        otherwise: What the message says if no name is similar; a list of all names if empty.
    """
    names = sorted(set(known))
    hint = did_you_mean(name, names, otherwise or f"There are: {', '.join(names)}.")
    return InvalidInput(f"There is no {what} {name[:70]!r}. {hint}")
