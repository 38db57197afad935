"""BigQuery's list prices, from which the ledger works out what its jobs and tables cost.

Prices differ by location and by contract, so what is worked out is an estimate. A project that pays for slots
(capacity-based pricing) is not billed by bytes at all.
"""

from __future__ import annotations

from typing import Final

#: The day of which the prices are, where they are published, and for which location.
AS_OF: Final = "2026-03-23"
SOURCE: Final = "https://cloud.google.com/bigquery/pricing"
LOCATION: Final = "US (multi-region)"

GIB: Final = 2**30
TIB: Final = 2**40
#: On-demand queries, for each TiB billed. The first TiB of a month is free.
QUERY_USD_PER_TIB: Final = 6.25
FREE_QUERY_TIB: Final = 1.0
#: Least bytes billed for each table that a statement names.
LEAST_BYTES: Final = 10 * 2**20
#: Storage Write API, for each GiB. The first 2 TiB of a month are free.
WRITE_USD_PER_GIB: Final = 0.025
FREE_WRITE_TIB: Final = 2.0
#: Streaming by insertAll, for each 200 MiB, in which a row has at least 1 KiB.
INSERT_USD_PER_200_MIB: Final = 0.01
INSERT_LEAST_ROW_BYTES: Final = 2**10
#: Storage for each GiB and month, by logical bytes. A partition that nobody changed for 90 days is long-term storage.
ACTIVE_USD_PER_GIB: Final = 0.02
LONG_TERM_USD_PER_GIB: Final = 0.01
FREE_STORAGE_GIB: Final = 10.0


def query_usd(bytes_billed: int) -> float:
    """Return the price of bytes billed on demand, in US dollars, without the free TiB of a month."""
    return bytes_billed / TIB * QUERY_USD_PER_TIB


def storage_usd(active_bytes: int, long_term_bytes: int) -> float:
    """Return the price of logical bytes that are stored for a month, in US dollars, without the free 10 GiB."""
    return active_bytes / GIB * ACTIVE_USD_PER_GIB + long_term_bytes / GIB * LONG_TERM_USD_PER_GIB
