"""The contract of verification: what a store recorded passes its own ``verify``. Capability: ``verify``."""

from __future__ import annotations

from typing import Any

import pytest

from ledger import Change, SessionNotFound
from ledger.stores.base import verifying_store
from ledger.testing.exchange import abroad
from ledger.testing.harness import Harness, begin
from ledger.testing.streams import event, recorded


class VerificationContract(Harness):
    """Tests of ``VerifyingStore``.

    Without the capability, ``verify`` is absent or raises CapabilityMissing.
    """

    def test_what_was_recorded_is_verified(self, store: Any) -> None:
        begin(store)
        store.append("s", event(1, Change("title", value="t")))
        if self.lacks("verify", lambda: store.verify()):
            assert verifying_store(store) is None
            return
        assert verifying_store(store) is not None
        store.append("s", event(2, Change("title", removed=True)))
        store.ingest(abroad("a"))
        for result in (store.verify(), store.verify(["s", "a"]), store.verify(rebuild=True)):
            assert (result.sessions, result.events, result.unchained) == (2, 7, 0)
            assert result.clean
            assert (result.findings, result.omitted, result.mended) == ((), 0, ())
        assert store.verify(["s"]).events == 3

    def test_events_without_a_chain_are_counted(self, store: Any) -> None:
        begin(store)
        store.ingest([recorded(2, 2, [Change("title", value="unchained")])])
        if not self.capabilities.verify:
            return
        store.append("s", event(3))
        result = store.verify()
        assert (result.clean, result.events, result.unchained) == (True, 3, 1)

    def test_a_session_that_is_not_there_cannot_be_verified(self, store: Any) -> None:
        if not self.capabilities.verify:
            return
        begin(store)
        with pytest.raises(SessionNotFound) as raised:
            store.verify(["s", "nowhere"])
        assert raised.value.session_id == "nowhere"
