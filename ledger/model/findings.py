"""The result of a verification of a store, and its findings."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.model.seals import SealComparison


@dataclass(frozen=True, slots=True)
class Finding:
    """A place where stored data are not what was recorded.

    Attributes:
        session_id: The session; empty if the finding concerns the whole store.
        version: The version of the event; None if the finding does not concern one event.
        code: The kind of finding, a short word that never changes; docs/verification.md and docs/seals.md list them.
        message: What is wrong.
        mendable: True if the wrong data are derived from the events, so that ``rebuild`` can compute them again.
    """

    session_id: str
    version: int | None
    code: str
    message: str
    mendable: bool = False


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a verification.

    Attributes:
        sessions: Number of sessions verified.
        events: Number of events verified.
        unchained: Events among them without hashes, which writers without a chain recorded. Their values and their
            number cannot be verified.
        archived: Sessions among them whose rows are only in a warehouse. Only their heads and the ids of their events
            were verified.
        findings: The findings in the order of the sessions, then the findings of the comparison with a seal. There are
            at most as many of each as the ``limit`` of the call allowed.
        omitted: Number of findings beyond that limit.
        mended: The findings that ``rebuild`` has mended. They are in ``findings`` too.
        against: The comparison with a seal; None if no seal was given.
    """

    sessions: int
    events: int
    unchained: int
    archived: int
    findings: tuple[Finding, ...] = ()
    omitted: int = 0
    mended: tuple[Finding, ...] = ()
    against: SealComparison | None = None

    @property
    def left(self) -> tuple[Finding, ...]:
        """The findings that have not been mended."""
        mended = set(self.mended)
        return tuple(finding for finding in self.findings if finding not in mended)

    @property
    def clean(self) -> bool:
        """True if nothing was found, or everything that was found has been mended."""
        return not self.omitted and not self.left
