"""The complete store contract."""

from __future__ import annotations

from ledger.testing.append import AppendContract
from ledger.testing.archiving import ArchivingContract
from ledger.testing.backup import BackupContract
from ledger.testing.commit_order import CommitOrderContract
from ledger.testing.concurrency import ConcurrencyContract
from ledger.testing.exchange import ExchangeContract
from ledger.testing.idempotency import IdempotencyContract
from ledger.testing.integrity import IntegrityContract
from ledger.testing.lifetimes import LifetimesContract
from ledger.testing.opening import OpeningContract
from ledger.testing.orders import OrdersContract
from ledger.testing.outbox import OutboxContract
from ledger.testing.pages import PagesContract
from ledger.testing.reading import ReadingContract
from ledger.testing.seals import SealsContract
from ledger.testing.search import SearchContract
from ledger.testing.sessions import SessionsContract
from ledger.testing.verification import VerificationContract
from ledger.testing.versions import VersionsContract


class StoreContract(
    OpeningContract,
    AppendContract,
    VersionsContract,
    IdempotencyContract,
    ReadingContract,
    PagesContract,
    SessionsContract,
    OrdersContract,
    SearchContract,
    LifetimesContract,
    ExchangeContract,
    CommitOrderContract,
    OutboxContract,
    ArchivingContract,
    IntegrityContract,
    VerificationContract,
    SealsContract,
    ConcurrencyContract,
    BackupContract,
):
    """The behaviour of every event store, tested through the protocols of ``ledger.stores.base``.

    Each test has its own stores.

    Give a subclass a name that begins with ``Test``, and set its ``capabilities`` to those that the store is expected
    to declare. A capability that is True must work. Using one that is False must raise CapabilityMissing, or its
    effect must be absent. No test is skipped.

    The subclass or its module provides these fixtures:

    - ``open_store``: a function that opens the store of a given name. The first call for a name opens an empty store.
      Every later call opens a store on the same data, even while an earlier one is open. The stores use the fixture
      ``clock``. The fixture closes all stores after the test.
    - ``open_backup``, if ``backup`` is True: a function that opens the backup at a given path.
    """
