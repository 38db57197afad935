"""The behaviours that the whole BigQuery suite runs over."""

from __future__ import annotations

from service.billing import BytesBilled
from service.layer import Behaviour
from service.rows import ExpiredPartitions, RowLimit
from service.statements import (
    ContendingTransactions,
    EmptyArraysAreNull,
    ExactNumbers,
    Locations,
    OutstandingStatements,
    SearchTerms,
    TransactionsOverStreamedRows,
)
from service.streams import NewColumns, NewObjects, OneConnection


def behaviours() -> list[Behaviour]:
    """New ones, each of which remembers only what goes through it."""
    return [
        Locations(),
        BytesBilled(),
        EmptyArraysAreNull(),
        ExactNumbers(),
        SearchTerms(),
        NewObjects(),
        NewColumns(),
        OneConnection(),
        TransactionsOverStreamedRows(),
        OutstandingStatements(),
        ContendingTransactions(),
        RowLimit(),
        ExpiredPartitions(),
    ]
