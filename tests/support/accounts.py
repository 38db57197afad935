"""Accounts at the emulator, which takes the address in a token for who asks."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import orjson
from google.cloud import bigquery
from google.oauth2.credentials import Credentials

if TYPE_CHECKING:
    from support.emulator import Emulator

#: Who asks without a token, as the ledger does at an emulator.
NOBODY = "user:local-bigquery@localhost"


class Account:
    """A client of the emulator's REST interface that asks as an account: ``ana@example.com``."""

    def __init__(self, emulator: Emulator, address: str, project: str) -> None:
        claims = base64.urlsafe_b64encode(orjson.dumps({"email": address})).decode().rstrip("=")
        self.client = bigquery.Client(
            project=project,
            credentials=Credentials(token=f"e30.{claims}.none"),
            client_options={"api_endpoint": emulator.bare[0]},
        )

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.client.query_and_wait(sql)]
