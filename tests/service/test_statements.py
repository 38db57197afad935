"""Each behaviour of statements bites; what the ledger does about it is in `test_mended`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from faults.proxy_rest import Answer
from service.layer import Behaviour, Layer, refused_rows
from service.statements import (
    ContendingTransactions,
    EmptyArraysAreNull,
    ExactNumbers,
    Locations,
    OutstandingStatements,
    SearchTerms,
    TransactionsOverStreamedRows,
)

QUERIES = "/bigquery/v2/projects/p/queries"
LIST = {"type": "ARRAY", "arrayType": {"type": "STRING"}}
UPDATE = "BEGIN TRANSACTION; UPDATE `p.d.t` SET a = 1 WHERE TRUE; COMMIT TRANSACTION;"


class Backend:
    """Answers each statement, and remembers what reached it."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.layer = Layer(behaviours)
        self.received: list[dict[str, Any]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def send(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, str]:
        status, _, content = self.layer.rest(method, path, json.dumps(body).encode(), self._answer)
        return status, json.loads(content).get("error", {}).get("message", "")

    def run(self, sql: str, *parameters: dict[str, Any], **config: Any) -> tuple[int, str]:
        return self.send("POST", QUERIES, {"query": sql, "queryParameters": list(parameters), **config})

    def _answer(self, body: bytes) -> Answer:
        self.received.append(json.loads(body))
        self.meanwhile()
        return 200, [], b"{}"


def text(value: str, name: str = "v") -> dict[str, Any]:
    return {"name": name, "parameterType": {"type": "STRING"}, "parameterValue": {"value": value}}


def test_an_empty_list_arrives_as_null_and_others_as_they_are():
    backend = Backend(EmptyArraysAreNull())
    full = {"name": "w", "parameterType": LIST, "parameterValue": {"arrayValues": [{"value": "a"}]}}
    backend.run("SELECT 1", {"name": "v", "parameterType": LIST, "parameterValue": {"arrayValues": []}}, full)
    empty, other = backend.received[0]["queryParameters"]
    assert (empty["parameterValue"], other) == (None, full)


@pytest.mark.parametrize(
    ("sql", "value", "refused"),
    [
        ("SELECT PARSE_JSON(@v, wide_number_mode => 'exact')", '{"a": [67.174118]}', True),
        ("SELECT PARSE_JSON(@v)", "50.0007544437", True),
        ("SELECT PARSE_JSON(@v, wide_number_mode => 'round')", "67.174118", False),
        ("SELECT PARSE_JSON(@v)", "6717411800000001e-14", False),
        ("SELECT PARSE_JSON(@v)", '["67.174118", 0.1, 1e3, 12]', False),
        ("SELECT @v", "67.174118", False),
    ],
)
def test_a_statement_with_a_number_that_is_not_written_as_bigquery_does_is_refused(sql, value, refused):
    status, said = Backend(ExactNumbers()).run(sql, text(value))
    assert (status == 400, "cannot round-trip" in said) == (refused, refused)


def test_a_row_of_insert_all_with_such_a_number_is_refused():
    backend = Backend(ExactNumbers())
    rows = {"rows": [{"json": {"value": "1.5"}}, {"json": {"value": "67.174118"}}]}
    path = "/bigquery/v2/projects/p/datasets/d/tables/t/insertAll"
    _, _, body = backend.layer.rest("POST", path, json.dumps(rows).encode(), backend._answer)
    assert [error["index"] for error in json.loads(body)["insertErrors"]] == [1]
    assert backend.received == []


def test_a_transaction_over_rows_that_were_streamed_is_refused_and_a_statement_alone_is_not():
    backend = Backend(TransactionsOverStreamedRows())
    assert backend.run(UPDATE)[0] == 200
    backend.send("POST", "/bigquery/v2/projects/p/datasets/d/tables/t/insertAll", {"rows": []})
    status, said = backend.run(UPDATE)
    assert status == 400
    assert "recently streamed" in said
    assert backend.run("DELETE FROM `p.d.t` WHERE TRUE")[0] == 200
    assert backend.run("BEGIN TRANSACTION; INSERT INTO `p.d.t` (a) VALUES (1); COMMIT TRANSACTION;")[0] == 200


def test_of_two_transactions_over_a_table_the_second_is_cancelled():
    backend, answers = Backend(ContendingTransactions()), []

    def second() -> None:
        backend.meanwhile = lambda: None
        answers.append(backend.run(UPDATE))
        answers.append(backend.run(UPDATE.replace("p.d.t", "p.d.u")))

    backend.meanwhile = second
    assert backend.run(UPDATE)[0] == 200
    assert [status for status, _ in answers] == [400, 200]
    assert "aborted due to concurrent update against table p.d.t" in answers[0][1]
    assert backend.run(UPDATE)[0] == 200


def test_too_many_statements_at_a_time_over_a_table_are_refused():
    backend, answers = Backend(OutstandingStatements(limit=2)), []
    statement = "UPDATE `p.d.t` SET a = 1 WHERE TRUE"

    def further() -> None:
        if len(backend.received) < 3:
            answers.append(backend.run(statement))

    backend.meanwhile = further
    assert backend.run(statement)[0] == 200
    assert sorted(status for status, _ in answers) == [200, 400]
    assert any("Too many DML statements outstanding against table p.d.t, limit is 2" in said for _, said in answers)


@pytest.mark.parametrize(("named", "status"), [({}, 404), ({"location": "US"}, 404), ({"location": "eu"}, 200)])
def test_a_job_without_a_location_runs_in_us_and_finds_no_dataset_elsewhere(named, status):
    backend = Backend(Locations())
    assert backend.run("SELECT * FROM `p.d.t`", **named)[0] == status
    default = {"projectId": "p", "datasetId": "d"}
    assert backend.run("SELECT * FROM t", defaultDataset=default, **named)[0] == status
    assert backend.run("SELECT 1", **named)[0] == 200


@pytest.mark.parametrize(("terms", "status"), [("not", 400), ("`a` or `b`", 400), ("`not` `in`", 200), ("notes", 200)])
def test_an_operator_among_the_terms_is_refused_unless_it_stands_in_backticks(terms, status):
    assert Backend(SearchTerms()).run("SELECT * FROM t WHERE SEARCH(t, @terms)", text(terms, "terms"))[0] == status


def test_a_refusal_of_rows_names_them():
    from google.cloud.bigquery_storage_v1 import types
    from grpc import StatusCode

    found = types.AppendRowsResponse.deserialize(refused_rows(StatusCode.INVALID_ARGUMENT, "no", [(3, "bad")]))
    assert (found.error.code, found.row_errors[0].index, found.row_errors[0].message) == (3, 3, "bad")
