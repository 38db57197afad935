"""The page docs/fields.md, made from ``FIELDS``; ``ledger.cli.reference`` writes it."""

from __future__ import annotations

from collections.abc import Iterable

from ledger.model.fields import FIELDS, SESSION_KEY, Field
from ledger.model.session import COLUMNS

_INTRODUCTION = """# The fields

Written by `make docs` from `ledger/model/fields.py`; change that, not this page.

A session's state is the last value of each field, and of each key where a field is keyed. `Session` has an attribute
for each field. `ledger show --json` has the same names, but for tool calls: they are objects under `tool_calls`, with
status and result. Forks and rewinds copy what is marked so.

| Field | What it is | Key | Value | On `Session` | Copied | Searched |
|---|---|---|---|---|---|---|
"""


def fields_reference() -> str:
    """The page docs/fields.md."""
    notes = [
        f"Columns of the view `sessions`: {_names(COLUMNS)}.",
        f"Readers see these in the order in which they were written: {_marked('ordered')}. Copies keep that order.",
        f"A session made from a template takes over {_marked('in_template')}.",
        f"Of an archived session, lists still know {_marked('listed')}.",
        "A fork of an expired, archived or deleted session is `active`; a rewind does not bring back such a status.",
        f"Any `x_name` of yours takes any JSON, keyed or not; see `Session.free`. All but `{SESSION_KEY}` are copied.",
    ]
    return _INTRODUCTION + "\n".join(map(_row, FIELDS.values())) + "\n\n" + "\n\n".join(notes) + "\n"


def _row(field: Field) -> str:
    cells = (
        *(f"`{field.name}`", field.doc.replace("``", "`"), field.key or "-"),
        f"`{field.shape}`" if field.shape.startswith("{") else field.shape,
        *(f"`{field.attribute}`", "yes" if field.copied else "no", "yes" if field.searched else "no"),
    )
    return f"| {' | '.join(cells)} |"


def _marked(flag: str) -> str:
    return _names(name for name, field in FIELDS.items() if getattr(field, flag))


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
