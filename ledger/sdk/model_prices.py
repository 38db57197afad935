"""The price list of language models, from which views work out what calls cost that brought no price."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ledger.model.prices import ModelPrice, merged
from ledger.sdk.queries import Queries, beside_of, own_warehouse, warehouse_path
from ledger.tiers.local import PriceListStore, price_list_of
from ledger.warehouse.base import Warehouse


class ModelPrices(Queries):
    """Mixin class: the price list of language models."""

    def model_prices(self) -> list[ModelPrice]:
        """Return the price list of the ledger, sorted by model, provider and first day.

        Raises:
            PermissionDenied: The ledger was returned by ``for_user``.
            StoreUnavailable: The list cannot be read now.
        """
        from ledger.warehouse.prices import recorded

        own = own_warehouse(self)
        return self._price_list("model_prices").model_prices() if own is None else recorded(own)

    def import_model_prices(self, prices: Iterable[ModelPrice], *, replace: bool = False) -> int:
        """Add prices to the price list of the ledger. One of the same model, provider and first day is replaced.

        The views then work out ``cost_usd`` of the model calls that were recorded without a price, also of earlier
        ones; no event is changed. A SQLite ledger keeps the list in its file. It is copied to the warehouse that the
        ledger was opened with or, without one, to the DuckDB file beside the ledger; ``sql`` copies it to a DuckDB file
        that was created anew.

        Args:
            prices: The prices; all or none are imported.
            replace: True to remove all other prices.

        Returns:
            The number of prices in ``prices``.

        Raises:
            InvalidInput: Two of the prices have the same model, provider and first day; nothing was imported.
            PermissionDenied: The ledger was returned by ``for_user``.
            StoreRejected: The ledger is read-only.
            StoreUnavailable: The file or the warehouse cannot be written now. If it is the warehouse, the file may have
                the prices already; import them again.
        """
        from ledger.warehouse.prices import send

        added = merged((), prices)
        if not added and not replace:
            return 0
        if own_warehouse(self) is None:
            self._price_list("import_model_prices").import_model_prices(added, replace=replace)
        with self._warehouse_with_prices() as warehouse:
            if warehouse is not None:
                send(warehouse, added, self._clock(), replace=replace)
        return len(added)

    @contextmanager
    def _warehouse_with_prices(self) -> Iterator[Warehouse | None]:
        """Context manager that yields the warehouse that has a copy of the price list; None if there is none yet."""
        own = own_warehouse(self)
        if own is not None or self._warehouse is not None:
            yield own if self._warehouse is None else self._warehouse.opened
        elif warehouse_path(self).exists():
            beside = beside_of(self)
            try:
                yield beside.opened
            finally:
                beside.close(0)
        else:
            yield None

    def _price_list(self, call: str) -> PriceListStore:
        """Return the store as a ``PriceListStore``; see ``_for_all_users``."""
        return self._for_all_users(call, price_list_of, f"The store of {self.url} keeps no price list.")
