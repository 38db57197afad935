"""How the service treats rows that are too old or too large, where the emulator is kinder."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from faults.proxy_rest import Answer
from service.layer import Append, Behaviour, Request, Statement, refusal

_SET = re.compile(
    r"\b(?:CREATE\s+TABLE(?:\s+IF\s+NOT\s+EXISTS)?|ALTER\s+TABLE)\s+`([\w.-]+)`([^;]*?)"
    r"\bpartition_expiration_days\s*=\s*([\d.]+|NULL)",
    re.IGNORECASE,
)
_DROPPED = re.compile(r"\bDROP\s+TABLE\s+(?:IF\s+EXISTS\s+)?`([\w.-]+)`", re.IGNORECASE)
_DAY = timedelta(days=1)


class ExpiredPartitions(Behaviour):
    """The rows of a day are dropped once the day has expired, and rows that are appended to it later at once.

    A day expires after the time that `partition_expiration_days` names, counted from its end. The emulator passes over
    the option: it is remembered here from the statements and descriptions that set it, and shown in the description of
    the table. Rows go before each statement.

    Args:
        now: The service's clock.

    Source: the documentation of partitioned tables, "Set the partition expiration"; what becomes of later rows:
    github.com/confluentinc/kafka-connect-bigquery, issue 77.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.now = now
        self._kept: dict[str, timedelta] = {}
        self._first: dict[str, date] = {}  # of tables without rows of earlier days
        self._lock = threading.Lock()

    def run(self, statement: Statement, forward: Callable[[], Answer]) -> Answer:
        for table, kept in list(self._kept.items()):
            first = (self.now() - kept).astimezone(UTC).date()
            if self._first.get(table) != first:
                self._first[table] = first
                status, headers, body = self._drop_rows(statement, forward, table, first)
                if status == 404:  # its dataset was dropped
                    self._remember(table, None)
                elif status != 200:
                    return status, headers, body
        answer = forward()
        if answer[0] == 200:
            self._has_new_rows(*statement.inserted)
            for table in _DROPPED.findall(statement.sql):
                self._remember(table, None)
            for table, _, days in _SET.findall(statement.sql):
                self._remember(table, None if days.upper() == "NULL" else float(days) * _DAY)
        return answer

    def rest(self, request: Request, forward: Callable[[], Answer]) -> Answer:
        status, headers, body = forward()
        if request.name == "POST insertAll":
            self._has_new_rows(request.table)
        if status == 200 and request.name in ("POST tables", "PATCH table", "PUT table", "GET table"):
            found: dict[str, Any] = json.loads(body)
            reference = found["tableReference"]
            table = f"{reference['projectId']}.{reference['datasetId']}.{reference['tableId']}"
            if request.name != "GET table" and "timePartitioning" in request.body:
                expiration = (request.body["timePartitioning"] or {}).get("expirationMs")
                self._remember(table, timedelta(milliseconds=int(expiration)) if expiration else None)
            if table in self._kept and "timePartitioning" in found:
                found["timePartitioning"]["expirationMs"] = str(self._kept[table] // timedelta(milliseconds=1))
                body = json.dumps(found).encode()
        return status, headers, body

    def append(self, append: Append, forward: Callable[[], bytes]) -> bytes:
        answer = forward()
        self._has_new_rows(append.table)
        return answer

    def _has_new_rows(self, *tables: str) -> None:
        for table in tables:
            self._first.pop(table, None)

    def _remember(self, table: str, kept: timedelta | None) -> None:
        with self._lock:
            self._has_new_rows(table)
            self._kept.pop(table, None)
            if kept is not None:
                self._kept[table] = kept

    def _drop_rows(self, statement: Statement, forward: Callable[[], Answer], table: str, first: date) -> Answer:
        """Run a statement of our own in the place of the one that was sent."""
        sql = f"DELETE FROM `{table}` WHERE created_at < TIMESTAMP '{first} 00:00:00+00'"
        body = statement.request.body
        sent = dict(body)
        body.clear()
        if "configuration" in sent:
            body["configuration"] = {"query": {"query": sql, "useLegacySql": False}}
        else:
            body.update({"query": sql, "useLegacySql": False, "location": sent.get("location")})
        try:
            return forward()
        finally:
            body.clear()
            body.update(sent)


class RowLimit(Behaviour):
    """A statement fails if a row of its answer is larger than a limit.

    The service limits the rows and aggregates on the way to the answer, too, which cannot be seen from here.

    Args:
        limit: The limit in bytes.

    Source: the documentation of quotas, "Query jobs", maximum row size.
    """

    def __init__(self, limit: int = 100_000_000) -> None:
        self.limit = limit

    def run(self, statement: Statement, forward: Callable[[], Answer]) -> Answer:
        return self._checked(forward())

    def rest(self, request: Request, forward: Callable[[], Answer]) -> Answer:
        answer = forward()
        return self._checked(answer) if request.name == "GET getQueryResults" else answer

    def _checked(self, answer: Answer) -> Answer:
        status, _, body = answer
        if status == 200 and len(body) > self.limit:
            rows = json.loads(body).get("rows") or []
            if any(len(json.dumps(row, ensure_ascii=False).encode()) > self.limit for row in rows):
                return refusal(
                    400,
                    "resourcesExceeded",
                    "Resources exceeded during query execution: Row size limit exceeded: a row is larger than "
                    f"{self.limit} bytes.",
                )
        return answer
