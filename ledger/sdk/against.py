"""Verification against a seal: finding the seal that a caller names, and comparing its sessions with the ledger."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ledger.errors import ConfigurationError, InvalidInput
from ledger.model.findings import Finding
from ledger.model.seals import (
    ROOT_DIGITS,
    Leaf,
    LeafCheck,
    MerkleTree,
    Seal,
    SealComparison,
    checked,
    leaves_of,
    seal_of,
)
from ledger.stores.base import MAX_FINDINGS, SealingStore
from ledger.tiers.attached import AttachedWarehouse

#: Maximum number of sealed sessions that are compared at once.
_PAGE = 1_000
#: Maximum length of a line of a seal's file, in bytes.
_LINE = 10_000
_ROOT = re.compile(f"[0-9a-f]{{{ROOT_DIGITS}}}")
_WAREHOUSE = "warehouse:"
_MESSAGES = {
    "missing": "the session is gone, and nothing was recorded of its deletion",
    "replaced": "the session is gone, and another one was created under its id",
    "shortened": "this event was sealed, and the session does not have it any more",
    "rewritten": "the event has another hash than when it was sealed, so it or one before it was rewritten",
}


class _Named(NamedTuple):
    """The seal that the argument ``against`` of ``compare`` stands for.

    Attributes:
        source: Where the seal was found, as in ``SealComparison``.
        root: The Merkle root of the seal.
        seal: The seal; None if the caller gave only the root.
        path: The file from which the leaves are read; None to read them from the ledger.
    """

    source: str
    root: str
    seal: Seal | None
    path: Path | None = None


class Comparison(NamedTuple):
    """The result of ``compare``.

    Attributes:
        findings: The findings, at most ``MAX_FINDINGS``.
        omitted: The number of findings beyond these.
        against: The seal, and the number of its sessions that were compared.
        gone: Of the sessions in ``only``, those that the seal has and the ledger lacks: purged or missing.
    """

    findings: tuple[Finding, ...]
    omitted: int
    against: SealComparison
    gone: frozenset[str] = frozenset()


def compare(
    store: SealingStore,
    warehouse: AttachedWarehouse | None,
    against: Seal | str | os.PathLike[str],
    *,
    only: Collection[str] | None = None,
) -> Comparison:
    """Compare the sessions of a seal with what the ledger holds now.

    Args:
        store: The ledger's store.
        warehouse: The attached warehouse; None if none is attached.
        against: The seal, as for ``SessionLedger.verify``.
        only: Ids of the sessions to compare; None for all sessions of the seal.

    Raises:
        InvalidInput: There is no such seal, the seal's file is damaged, or the seal belongs to another ledger.
        ConfigurationError: ``against`` names a seal in the warehouse, but no warehouse is attached.
        StoreUnavailable: The warehouse cannot be reached.
    """
    seals = store.seals()
    named = _named(store, warehouse, seals, against)
    if named.seal is not None and named.seal.store_id != store.store_id:
        raise InvalidInput(
            f"The seal is of the ledger {named.seal.store_id}, and this is {store.store_id}; verify that one with it."
        )
    kept = next(
        (each for each in seals if (named.seal or each).seal_id == each.seal_id and each.root == named.root), None
    )
    findings = _Findings()
    findings.extend(_gaps(seals))
    if named.path is None and kept is None:
        findings.add(
            "seal_missing", f"the ledger has no seal with the root {named.root}; its own was removed or changed"
        )
        return findings.result(SealComparison(named.source, named.seal))
    seal = named.seal or kept
    assert seal is not None  # noqa: S101 - a file has one, and without a file the ledger has it
    if named.path is None:
        leaves = _kept_leaves(store, seal, findings)
    else:
        if kept is None:
            findings.add("seal_missing", f"the ledger does not have the seal {seal.seal_id} of {named.path}")
        leaves = _leaves_in(named.path, seal)
    sessions, purged, purged_count, elsewhere = 0, list[str](), 0, 0
    gone: set[str] = set()
    if only is not None:
        leaves = (leaf for leaf in leaves if leaf.session_id in only)
    while page := list(islice(leaves, _PAGE)):
        for check in store.compare_sealed(page):
            if only is not None and check.found in ("purged", "missing"):
                gone.add(check.leaf.session_id)
            if check.found == "purged":
                purged_count += 1
                purged += [check.leaf.session_id] if len(purged) < MAX_FINDINGS else []
            elif check.found == "elsewhere":
                elsewhere += 1
            elif check.found != "same":
                findings.add_check(check)
        sessions += len(page)
    against_it = SealComparison(named.source, seal, sessions, tuple(purged), purged_count, elsewhere)
    return findings.result(against_it)._replace(gone=frozenset(gone))


class _Findings:
    """A list of findings with a maximum length. Findings beyond the maximum are only counted."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._omitted = 0

    def extend(self, findings: Iterator[Finding]) -> None:
        for finding in findings:
            if len(self._found) < MAX_FINDINGS:
                self._found.append(finding)
            else:
                self._omitted += 1

    def add(self, code: str, message: str) -> None:
        """Add a finding about a seal as a whole."""
        self.extend(iter([Finding("", None, code, message)]))

    def add_check(self, check: LeafCheck) -> None:
        """Add a finding about a session."""
        leaf = check.leaf
        self.extend(iter([Finding(leaf.session_id, leaf.version, f"sealed_{check.found}", _MESSAGES[check.found])]))

    def result(self, against: SealComparison) -> Comparison:
        return Comparison(tuple(self._found), self._omitted, against)


def _named(
    store: SealingStore,
    warehouse: AttachedWarehouse | None,
    seals: list[Seal],
    against: Seal | str | os.PathLike[str],
) -> _Named:
    if isinstance(against, Seal):
        return _Named("caller", against.root, against)
    name = os.fspath(against)
    if not isinstance(name, str):
        raise InvalidInput("A seal is named by text: latest, an id, a root, or the path of a file.")
    if name.startswith(_WAREHOUSE):
        if warehouse is None:
            raise ConfigurationError("No warehouse is attached to take the seal from; open the ledger with it.")
        from ledger.warehouse.seals import recorded

        found = _choose(recorded(warehouse.opened, store.store_id), name.removeprefix(_WAREHOUSE), warehouse.url)
        return _Named("warehouse", found.root, found)
    if isinstance(against, str) and _ROOT.fullmatch(name.lower()):
        return _Named("caller", name.lower(), None)
    if isinstance(against, str) and (name == "latest" or any(seal.seal_id == name for seal in seals)):
        found = _choose(seals, name, "the ledger")
        return _Named("ledger", found.root, found)
    path = Path(name)
    if not path.is_file():
        raise InvalidInput(f"{name} is neither a file nor a seal of this ledger; list the seals with `ledger seals`.")
    with path.open("rb") as file:
        seal = seal_of(file.readline(_LINE), name)
    for _ in _leaves_in(path, seal):  # nothing of a damaged file is reported
        pass
    return _Named("file", seal.root, seal, path)


def _choose(seals: list[Seal], name: str, where: str) -> Seal:
    chosen = seals[-1:] if name == "latest" else [seal for seal in seals if seal.seal_id == name]
    if not chosen:
        what = "no seal of this ledger" if name == "latest" else f"no seal {name} of this ledger"
        raise InvalidInput(f"There is {what} in {where}; make one with `ledger seal`.")
    return chosen[0]


def _leaves_in(path: Path, seal: Seal) -> Iterator[Leaf]:
    """Yield the leaves in a seal's file. At the end, raise InvalidInput if their root is not the seal's root."""
    with path.open("rb") as file:
        file.readline(_LINE)
        yield from checked(seal, leaves_of(iter(lambda: file.readline(_LINE), b""), str(path)), str(path))


def _kept_leaves(store: SealingStore, seal: Seal, findings: _Findings) -> Iterator[Leaf]:
    """Yield a seal's leaves from the ledger. At the end, add a finding if their root is not the seal's root."""
    tree = MerkleTree()
    for leaf in store.sealed(seal.seal_id):
        tree.add(leaf.entry())
        yield leaf
    if tree.root() != seal.root:
        findings.add(
            "seal_changed",
            f"what the ledger keeps of the seal {seal.seal_id} does not have the root {seal.root}; use the seal's file",
        )


def _gaps(seals: list[Seal]) -> Iterator[Finding]:
    """Yield a finding for each seal that names a previous seal which is not in the ledger."""
    roots: set[str | None] = {None}
    for seal in seals:
        if seal.previous_root not in roots:
            message = f"the seal before {seal.seal_id}, with the root {seal.previous_root}, was removed or changed"
            yield Finding("", None, "seal_missing", message)
        roots.add(seal.root)
