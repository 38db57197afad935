"""The whole contract, put together from its parts."""

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
from ledger.testing.outbox import OutboxContract
from ledger.testing.pages import PagesContract
from ledger.testing.reading import ReadingContract
from ledger.testing.search import SearchContract
from ledger.testing.sessions import SessionsContract
from ledger.testing.versions import VersionsContract


class StoreContract(
    OpeningContract,
    AppendContract,
    VersionsContract,
    IdempotencyContract,
    ReadingContract,
    PagesContract,
    SessionsContract,
    SearchContract,
    LifetimesContract,
    ExchangeContract,
    CommitOrderContract,
    OutboxContract,
    ArchivingContract,
    IntegrityContract,
    ConcurrencyContract,
    BackupContract,
):
    """What every event store does, by the protocols of ``ledger.stores.base`` alone; each test has stores of its own.

    A subclass, whose name begins with ``Test``, sets ``capabilities`` to what the store is expected to declare: what
    is True must work, and what is False must raise CapabilityMissing or be absent. Nothing is skipped.

    It, or its module, gives these fixtures:

    - ``open_store``: called with a name, it opens the store of that name, empty at first and with all it holds at each
      later call, also while it is open already. The store takes its times from the fixture ``clock``. What was opened
      is closed after the test.
    - ``open_backup``, where ``backup`` is True: called with the path of a backup, it opens the copy.
    """
