"""Row access policies and readers' views over the emulator, by accounts of their own."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from ledger.errors import ConfigurationError
from ledger.warehouse import catalog
from ledger.warehouse.arrow_rows import record_batch
from ledger.warehouse.bigquery.security import Access, apply
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.tables import create
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from ledger.warehouse.schema import table_columns
from support.accounts import NOBODY, Account
from support.bigquery_stores import environment
from support.emulator import Emulator
from support.histories import DAY, event, rows_of

pytestmark = [pytest.mark.emulator, pytest.mark.slow]
#: Policies make every statement of a project slower in the emulator, so that they have one of their own.
PROJECT = "security-tests"
USERS = ("ada", "bob", "cyd")
#: The views that have rows of users: all but the prices of models.
VIEWS = [item.name for item in catalog.objects() if item.kind == "view" and item.name != "model_price_periods"]
#: Of each layer of views one.
FEW = ("session_events", "session_fields", "sessions")
TABLES = [
    item.name
    for item in catalog.objects()
    if item.kind == "table" and "user_id" in {column.name for column in table_columns(item)}
]
ANALYSTS = Access((NOBODY, "user:root@example.com"), ("domain:example.com",))


def events_of(user: str) -> list[Any]:
    made = [
        event(1, ("question", "", "How many?"), ("status", "", "active")),
        event(2, ("message", "m1", {"role": "user", "content": "hi"})),
        event(3, ("tool_call", "c1", {"name": "sql"}), ("tool_call_status", "c1", "failed")),
        event(4, ("model_call", "c2", {"model": "m", "error": "overloaded"})),
        event(5, ("query", "q1", {"query_type": "orders"}), ("score", "s1", {"name": "good", "value": 1})),
    ]
    return [replace(each, session_id=f"s-{user}", user_id=user) for each in made]


@dataclass
class Place:
    """A ledger's dataset, and accounts that ask it."""

    emulator: Emulator
    dataset: Dataset
    warehouse: BigQueryWarehouse

    def account(self, address: str) -> Account:
        return Account(self.emulator, address, PROJECT)

    def owner(self, sql: str) -> list[tuple[Any, ...]]:
        return self.account("root@example.com").ask(catalog.bind(sql, PROJECT, self.dataset.name))

    def users(
        self, address: str, dataset: str = "", names: tuple[str, ...] = (*VIEWS, "session_events")
    ) -> dict[str, Any]:
        """The users whose rows an account sees, by view."""
        place = f"{PROJECT}.{dataset or self.dataset.name}"
        each = (f"SELECT '{name}' AS name, user_id FROM `{place}.{name}`" for name in names)
        found: dict[str, Any] = {name: set() for name in names}
        for name, user in self.account(address).ask(" UNION DISTINCT ".join(each)):
            found[name].add(user)
        return found

    def allow(self, reader: str, *users: str) -> None:
        rows = ", ".join(f"('{reader}', '{user}')" for user in users)
        self.owner(f"INSERT INTO `${{project}}.${{dataset}}.session_readers` (reader, user_id) VALUES {rows}")


@pytest.fixture(scope="module")
def made(emulator: Emulator) -> Iterator[Place]:
    dataset = Dataset(PROJECT, f"agents_{uuid.uuid4().hex[:8]}", retry_timeout=20, location="EU")
    with contextlib.closing(BigQueryWarehouse(dataset, environment=environment(emulator))) as warehouse:
        create(warehouse)
        rows = [row for user in USERS for row in rows_of(events_of(user))]
        warehouse.append("session_events", record_batch(rows))
        made = Place(emulator, dataset, warehouse)
        yield made
        made.account("root@example.com").client.delete_dataset(dataset.name, delete_contents=True)


@pytest.fixture
def place(made: Place) -> Iterator[Place]:
    """The dataset without policies and readers."""
    yield made
    for table in TABLES:
        made.owner(f"DROP ALL ROW ACCESS POLICIES ON `${{project}}.${{dataset}}.{table}`")
    made.owner("DROP TABLE IF EXISTS `${project}.${dataset}.session_readers`")
    made.account("root@example.com").client.delete_dataset(views_of(made), delete_contents=True, not_found_ok=True)


def few(users: set[str]) -> dict[str, set[str]]:
    return dict.fromkeys(FEW, users)


def views_of(place: Place) -> str:
    return f"{place.dataset.name}_views"


def test_readers_see_the_sessions_of_their_users_and_others_see_none(place):
    apply(place.warehouse, Access())
    assert place.users("ana@example.com", names=FEW) == few(set(USERS)), "nothing is set by default"
    apply(place.warehouse, ANALYSTS)
    nothing = few(set())
    assert place.users("ana@example.com", names=FEW) == nothing
    place.allow("ana@example.com", "ada", "bob")
    place.allow("ben@example.com", "cyd")
    seen = place.users("ana@example.com")
    assert seen == {name: set() if name == "conflicts" else {"ada", "bob"} for name in seen}
    assert place.users("ben@example.com", names=FEW) == few({"cyd"})
    assert place.users("eve@example.org", names=FEW) == nothing
    assert place.users("root@example.com", names=FEW) == few(set(USERS))
    place.owner("DELETE FROM `${project}.${dataset}.session_readers` WHERE reader = 'ana@example.com'")
    assert place.users("ana@example.com", names=FEW) == nothing


def test_who_has_full_access_appends_reads_and_deletes_as_before(place):
    apply(place.warehouse, ANALYSTS)
    place.warehouse.append(
        "session_events", record_batch(rows_of([replace(each, session_id="s-new") for each in events_of("ada")]))
    )
    asked = "SELECT session_id, version FROM sessions ORDER BY session_id"
    assert place.warehouse.query(asked).rows == [("s-ada", 5), ("s-bob", 5), ("s-cyd", 5), ("s-new", 5)]
    place.owner("DELETE FROM `${project}.${dataset}.session_events` WHERE session_id = 's-new'")
    assert len(place.warehouse.query(asked).rows) == 3


def test_applying_again_changes_the_members_and_keeps_the_readers(place):
    first = apply(place.warehouse, ANALYSTS)
    assert [change.done for change in first] == ["created", *["updated"] * 2 * len(TABLES)]
    place.allow("ana@example.com", "ada")
    again = apply(place.warehouse, Access(ANALYSTS.full_access, ("user:ben@example.com",)))
    assert [change.done for change in again] == ["unchanged", *["updated"] * 2 * len(TABLES)]
    assert again[-1].detail == "user:ben@example.com"
    assert place.users("ana@example.com", names=FEW[:1]) == {FEW[0]: set()}
    apply(place.warehouse, ANALYSTS)
    assert place.users("ana@example.com", names=FEW[:1]) == {FEW[0]: {"ada"}}


def test_the_views_of_a_second_dataset_show_each_account_its_sessions(place):
    views = views_of(place)
    changes = apply(place.warehouse, Access(views=views))
    assert {change.done for change in changes} == {"created"}
    assert {change.what for change in changes} == {"table", "dataset", "view", "function", "authorization"}
    place.allow("ana@example.com", "ada")
    # The emulator reads SESSION_USER() when a view is created, unless a table of the project has a policy.
    place.owner("CREATE TABLE `${project}.${dataset}.other` (x INT64)")
    place.owner(
        "CREATE ROW ACCESS POLICY p ON `${project}.${dataset}.other` GRANT TO ('user:x@y.z') FILTER USING (TRUE)"
    )
    seen = place.users("ana@example.com", views)
    assert seen == {name: set() if name == "conflicts" else {"ada"} for name in seen}
    assert place.users("ben@example.com", views, FEW) == few(set())
    place.allow(NOBODY.removeprefix("user:"), "bob")
    dataset = replace(place.dataset, name=views)
    with contextlib.closing(BigQueryWarehouse(dataset, environment=environment(place.emulator))) as readers:
        # The same account created the function: in the emulator, SESSION_USER() below a function is its creator.
        days = {"first": DAY, "next": DAY + timedelta(days=1)}
        assert readers.query("SELECT session_id FROM sessions_between(@first, @next)", days).rows == [("s-bob",)]
        assert readers.query("SELECT session_id FROM session_metrics").rows == [("s-bob",)]
    client = place.account("root@example.com").client
    assert client.get_dataset(views).location == "EU"
    entries = client.get_dataset(place.dataset.name).access_entries
    view = {"projectId": PROJECT, "datasetId": views, "tableId": "session_events"}
    authorized = [entry.entity_id for entry in entries if entry.entity_type == "view"]
    assert view in authorized
    assert {entry["tableId"] for entry in authorized} == {"session_events", "model_prices"}
    again = apply(place.warehouse, Access(views=views))
    assert {change.done for change in again} == {"unchanged", "updated"}
    assert len(client.get_dataset(place.dataset.name).access_entries) == len(entries)
    place.owner("DROP ALL ROW ACCESS POLICIES ON `${project}.${dataset}.other`")
    place.owner("DROP TABLE `${project}.${dataset}.other`")


def test_a_dataset_with_other_objects_of_these_names_is_left_alone(place):
    client, views = place.account("root@example.com").client, views_of(place)
    client.create_dataset(views)
    client.query_and_wait(f"CREATE VIEW `{PROJECT}.{views}.sessions` AS SELECT 1 AS x")
    with pytest.raises(ConfigurationError, match=r"has sessions, which would be replaced.*Nothing was changed"):
        apply(place.warehouse, replace(ANALYSTS, views=views))
    assert client.query_and_wait(f"SELECT * FROM `{PROJECT}.{views}.sessions`").to_arrow().num_rows == 1
    assert place.warehouse.table("session_readers") is None


def test_a_dataset_elsewhere_is_refused_before_anything_is_changed(place):
    from google.cloud import bigquery

    name = f"{place.dataset.name}_elsewhere"
    elsewhere = bigquery.Dataset(f"{PROJECT}.{name}")
    elsewhere.location = "europe-west3"
    place.warehouse.clients.rest.create_dataset(elsewhere)
    with pytest.raises(ConfigurationError, match=r"is in europe-west3, and .* in EU; views can only read"):
        apply(place.warehouse, replace(ANALYSTS, views=name))
    assert place.warehouse.table("session_readers") is None
    place.warehouse.clients.rest.delete_dataset(name)


def test_a_dataset_without_the_ledger_is_refused(emulator):
    dataset = Dataset(PROJECT, f"none_{uuid.uuid4().hex[:8]}", retry_timeout=20)
    with contextlib.closing(BigQueryWarehouse(dataset, environment=environment(emulator))) as warehouse:
        with pytest.raises(ConfigurationError, match=r"does not exist\. Create the ledger there first"):
            apply(warehouse, ANALYSTS)
        emulator.client.create_dataset(f"{PROJECT}.{dataset.name}")
        with pytest.raises(ConfigurationError, match=r"has no .*session_events.*Create the ledger there first"):
            apply(warehouse, ANALYSTS)
        emulator.client.delete_dataset(f"{PROJECT}.{dataset.name}")


def test_what_the_emulator_does_not_do(place):
    """In each of these the service is stricter. If one fails, the emulator has learned it: move it to a test above."""
    apply(place.warehouse, ANALYSTS)
    ana, name = place.account("ana@example.com"), f"{PROJECT}.{place.dataset.name}"
    days = "TIMESTAMP '2026-01-01', TIMESTAMP '2027-01-01'"
    # Policies apply below table functions, which here read all rows.
    assert {user for (user,) in ana.ask(f"SELECT user_id FROM `{name}.sessions_between`({days})")} == set(USERS)
    # tabledata.list takes full access.
    assert {row["user_id"] for row in ana.client.list_rows(f"{name}.session_events")} == set(USERS)
    # Statements that change rows take full access, and a role.
    ana.ask(f"UPDATE `{name}.session_events` SET actor = 'ana' WHERE session_id = 's-ada'")
    # An account needs a role to read anything, and members of a policy must exist.
    assert place.account("eve@example.org").ask(f"SELECT COUNT(*) FROM `{name}.session_readers`") == [(0,)]
