"""What the ledger does where BigQuery is stricter than its emulator, over the layer."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from faults.proxy_rest import Answer
from ledger import Change, ConfigurationError, NewEvent, StoreUnavailable
from ledger.clock import new_id, utc_now
from ledger.model.ids import created_at_of
from ledger.model.instants import to_micros
from ledger.model.integrity import verify
from ledger.model.queries import SearchQuery, SessionQuery
from ledger.model.search import Terms
from ledger.stores.bigquery.store import BigQueryStore
from ledger.warehouse import catalog
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.projection import span_of
from service.layer import Behaviour, Request, Statement, refusal, service
from service.stand_in import behaviours
from support.bigquery_stores import environment
from support.emulator import Emulator

pytestmark = pytest.mark.emulator

#: Doubles of which exact parsing refuses the shortest spelling, and some of which it does not.
DOUBLES = [67.174118, 50.0007544437, 1687473876.057356, 1e23, 5e-324, -0.1, 0.30000000000000004, 1.0]


class Seen(Behaviour):
    """Keeps the statements, and answers some of them otherwise."""

    def __init__(self) -> None:
        self.statements: list[Statement] = []
        self.requests: list[str] = []
        self.instead: Callable[[Statement, Callable[[], Answer]], Answer] = lambda _, forward: forward()
        self.instead_of_request: Callable[[Request, Callable[[], Answer]], Answer] = lambda _, forward: forward()

    def run(self, statement: Statement, forward: Callable[[], Answer]) -> Answer:
        self.statements.append(statement)
        return self.instead(statement, forward)

    def rest(self, request: Request, forward: Callable[[], Answer]) -> Answer:
        self.requests.append(request.name)
        return self.instead_of_request(request, forward)


class Stage:
    """A dataset behind a layer of its own, and what opens stores on it."""

    def __init__(self, emulator: Emulator, seen: Seen, open_later: contextlib.ExitStack) -> None:
        self.emulator, self.seen, self._open = emulator, seen, open_later
        self.place = Dataset(emulator.project, f"mended_{uuid.uuid4().hex}", retry_timeout=60)

    def store(self, **settings: Any) -> BigQueryStore:
        made = BigQueryStore(replace(self.place, **settings), environment=environment(self.emulator))
        return self._open.enter_context(contextlib.closing(made))


@pytest.fixture(scope="module")
def stage(emulator: Emulator) -> Iterator[Stage]:
    seen = Seen()
    with service(*emulator.bare, [seen, *behaviours()]) as layer, contextlib.ExitStack() as opened:
        made = Stage(replace(emulator, rest=layer.rest, grpc=layer.grpc), seen, opened)
        made.store().warehouse.create()
        yield made
    emulator.client.delete_dataset(made.place.name, delete_contents=True)


@pytest.fixture(scope="module")
def store(stage: Stage) -> BigQueryStore:
    return stage.store()


@pytest.fixture(scope="module")
def begun(store: BigQueryStore) -> str:
    """A session in a dataset that was made a moment ago."""
    return begin(store)


def begin(store: BigQueryStore, session_id: str = "", **fields: Any) -> str:
    session_id = session_id or new_id(utc_now())
    changes = [Change(name, value=value) for name, value in {"title": "On not being in or near", **fields}.items()]
    store.append(session_id, NewEvent("test.begun", changes, new_id(utc_now()), user_id="ada", creates_stream=True))
    return session_id


def add(store: BigQueryStore, session_id: str, *changes: Change) -> None:
    store.append(session_id, NewEvent("test.made", list(changes), new_id(utc_now())))


def ids(found: Any) -> set[str]:
    return {head.session_id for head, _ in found}


@contextlib.contextmanager
def answering(stage: Stage, name: str, answer: Callable[[], Answer]) -> Iterator[None]:
    """Context manager in whose block this answers the requests of a name."""
    stage.seen.instead_of_request = lambda request, forward: answer() if request.name == name else forward()
    try:
        yield
    finally:
        stage.seen.instead_of_request = lambda _, forward: forward()


def test_the_first_append_to_new_tables_and_a_plain_list_of_sessions_succeed(store, begun):
    assert begun in ids(store.sessions(SessionQuery()))
    assert begun not in ids(store.sessions(SessionQuery(), after=f"{to_micros(created_at_of(begun))}:{begun}"))


def test_a_list_with_and_without_criteria_is_the_same_as_everywhere(store, begun):
    tagged = begin(store)
    add(store, tagged, Change("tag", "x", True), Change("status", value="active"))
    assert ids(store.sessions(SessionQuery(tag="x"))) == {tagged}
    assert tagged not in ids(store.sessions(SessionQuery(without=("active",))))
    assert begun in ids(store.sessions(SessionQuery(without=("active",))))


@pytest.mark.parametrize("settings", [{}, {"strict": True}, {"transport": "insertall"}], ids=lambda it: str(it))
def test_every_double_is_recorded_and_read_back_as_it_was(stage, settings):
    store = stage.store(**settings)
    session = begin(store)
    add(store, session, Change("context", "doubles", DOUBLES), Change("context", "one", 67.174118))
    events = list(store.events(session))
    assert [change.value for change in events[1].changes] == [DOUBLES, 67.174118]
    _, state = store.state(session)
    assert state["context", "doubles"].text == json.dumps(DOUBLES, separators=(",", ":"))
    if settings.get("strict"):
        assert verify(events) == 2


def test_a_session_whose_rows_were_streamed_a_moment_ago_is_deleted(stage, store):
    gone, kept = begin(store, f"own-{uuid.uuid4().hex}"), begin(store)
    created_at = store.state(gone)[0].created_at
    parameters = {**span_of([(gone, created_at)]), "sessions": [f"{to_micros(created_at)}/{gone}"]}
    for _ in range(2):  # it can be repeated
        store.warehouse.change("delete_sessions", parameters)
        store.warehouse.change("delete_creations", {name: parameters[name] for name in ("session_ids", "sessions")})
        assert list(store.events(gone)) == []
        assert store._projection.creation_of(gone) is None
    assert len(list(store.events(kept))) == 1


def test_a_claim_left_behind_is_replaced_without_a_deletion_in_a_transaction(stage, store):
    name = f"own-{uuid.uuid4().hex}"
    old = utc_now() - timedelta(days=3)
    claim = {"session_id": name, "user_id": "a", "created_at": old}
    store.warehouse.ask("claim_creation", catalog.query("claim_creation"), claim)
    stage.seen.statements.clear()
    begin(store, name)
    assert store.state(name)[0].created_at > utc_now() - timedelta(hours=1)
    assert not [it for it in stage.seen.statements if it.in_transaction and it.mutated - {_locks(stage)}]


def test_of_two_writers_that_claim_a_session_both_get_the_earlier_claim(stage):
    stores, name, gate = [stage.store(), stage.store()], f"own-{uuid.uuid4().hex}", threading.Barrier(2)

    def write(each: BigQueryStore) -> None:
        gate.wait()
        begin(each, name)

    threads = [threading.Thread(target=write, args=(each,)) for each in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(stores[0].events(name))) == 2
    (seen,) = {each.state(name)[0].created_at for each in stores}
    sql = "SELECT DISTINCT created_at FROM session_events WHERE session_id = @id AND created_at >= @day"
    day = {"id": name, "day": utc_now() - timedelta(days=1)}
    assert stores[0].warehouse.query(sql, day).rows == [(seen,)]


def test_events_are_ingested_into_a_table_that_was_made_a_moment_ago(stage, store, begun):
    moved = [replace(event, session_id=f"own-{begun}") for event in store.events(begun)]
    assert store.ingest(moved) == 1
    assert [event.event_id for event in store.events(f"own-{begun}")] == [event.event_id for event in moved]


def test_words_that_are_operators_of_search_are_found(store, begun):
    for words in ("not", "in or near", "NOT being"):
        assert begun in {match.session_id for match in store.search(SearchQuery(Terms.of(words)))}


def test_the_location_of_a_dataset_is_looked_up_once(stage):
    warehouse = stage.store().warehouse
    stage.seen.requests.clear()
    for _ in range(3):
        assert warehouse.query("SELECT 1 AS n").rows == [(1,)]
    assert stage.seen.requests.count("GET dataset") == 1
    assert {statement.location for statement in stage.seen.statements[-3:]} == {"EU"}


def test_a_location_that_may_not_be_read_is_asked_for_once(stage):
    def place(statement: Statement, forward: Callable[[], Answer]) -> Answer:
        assert statement.location == ""
        statement.request.body["location"] = "EU"  # as the service does, which finds it by the tables
        return forward()

    warehouse = stage.store().warehouse
    stage.seen.requests.clear()
    stage.seen.instead = place
    try:
        with answering(stage, "GET dataset", lambda: refusal(403, "accessDenied", "bigquery.datasets.get")):
            for _ in range(3):
                assert warehouse.query("SELECT 1 AS n").rows == [(1,)]
    finally:
        stage.seen.instead = lambda _, forward: forward()
    assert stage.seen.requests.count("GET dataset") == 1


def test_the_location_of_a_dataset_that_does_not_exist_is_asked_for_until_it_does(stage):
    with contextlib.closing(stage.store(name=f"later_{uuid.uuid4().hex}").warehouse) as warehouse:
        for _ in range(2):
            with pytest.raises(ConfigurationError):
                warehouse.query("SELECT 1 AS n")
        assert warehouse.location() is None
        stage.emulator.client.create_dataset(warehouse.dataset.name)
        try:
            assert warehouse.location() == "EU"
            assert warehouse.query("SELECT 1 AS n").rows == [(1,)]
        finally:
            stage.emulator.client.delete_dataset(warehouse.dataset.name)


def test_a_lost_answer_about_the_location_is_no_lost_outcome_of_an_append(stage):
    def lose() -> Answer:
        raise ConnectionResetError

    store = stage.store(strict=True, retry_timeout=0)
    stage.seen.statements.clear()
    with answering(stage, "GET dataset", lose), pytest.raises(StoreUnavailable) as raised:
        begin(store)
    assert type(raised.value) is StoreUnavailable
    assert stage.seen.statements == []
    assert list(store.events(begin(store)))


def test_a_column_just_added_that_streams_refuse_is_waited_for(stage, store, begun):
    add_column = "ALTER TABLE `${project}.${dataset}.session_events` ADD COLUMN IF NOT EXISTS value_salt STRING"
    store.warehouse.run("create", add_column)
    add(store, begun, Change("title", value="after"))
    assert store.state(begun)[1]["title", ""].value == "after"


def test_a_poll_that_fails_is_repeated_and_the_statement_is_not(stage, store):
    polls: list[str] = []

    def unfinished(statement: Statement, forward: Callable[[], Answer]) -> Answer:
        status, headers, body = forward()
        answer = {"jobReference": json.loads(body)["jobReference"], "jobComplete": False}
        return status, headers, json.dumps(answer).encode()

    def fail_once(request: Request, forward: Callable[[], Answer]) -> Answer:
        if request.name == "GET getQueryResults":
            polls.append(request.name)
            if len(polls) == 1:
                error = {"code": 503, "message": "busy", "errors": [{"reason": "backendError"}]}
                return 503, [("Content-Type", "application/json")], json.dumps({"error": error}).encode()
        return forward()

    before = len(stage.seen.statements)
    stage.seen.instead, stage.seen.instead_of_request = unfinished, fail_once
    try:
        assert store.warehouse.query("SELECT 1 AS n").rows == [(1,)]
    finally:
        stage.seen.instead = stage.seen.instead_of_request = lambda _, forward: forward()
    assert len(stage.seen.statements) == before + 1
    assert len(polls) > 1
    assert "POST cancel" not in stage.seen.requests


def test_a_statement_that_must_wait_for_others_is_repeated(stage, store):
    refused: list[str] = []

    def once(statement: Statement, forward: Callable[[], Answer]) -> Answer:
        if not refused:
            refused.append(statement.sql)
            message = "Too many DML statements outstanding against table p:d.session_index, limit is 20."
            body = {"error": {"code": 400, "message": message, "errors": [{"reason": "invalidQuery"}]}}
            return 400, [("Content-Type", "application/json")], json.dumps(body).encode()
        return forward()

    stage.seen.instead = once
    try:
        begin(store, f"own-{uuid.uuid4().hex}")
    finally:
        stage.seen.instead = lambda _, forward: forward()
    assert len(refused) == 1


def test_the_log_of_the_first_append_to_a_new_table_recommends_no_repair(emulator, bigquery_dataset, caplog):
    place = Dataset(emulator.project, bigquery_dataset, retry_timeout=60)
    with contextlib.closing(BigQueryStore(place, environment=environment(emulator))) as new:
        new.warehouse.create()
        begin(new)
    (waited,) = [record.getMessage() for record in caplog.records if "session_events" in record.getMessage()]
    assert waited.startswith(
        "The append to session_events is retried for up to 300 s: The table session_events cannot be written to yet: "
        "Requested entity was not found."
    )
    assert "ledger init" not in waited


def test_a_table_that_is_not_there_is_not_waited_for(emulator, bigquery_dataset):
    place = Dataset(emulator.project, bigquery_dataset, retry_timeout=60)
    with (
        contextlib.closing(BigQueryStore(place, environment=environment(emulator))) as nowhere,
        pytest.raises(ConfigurationError),
    ):
        begin(nowhere)


def _locks(stage: Stage) -> str:
    return f"{stage.place.project}.{stage.place.name}.session_locks"
