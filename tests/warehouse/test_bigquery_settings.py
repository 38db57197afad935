"""What a bigquery:// URL and the environment say: each option, and an error that names it where it is wrong."""

from __future__ import annotations

import json

import pytest

from ledger.errors import ConfigurationError
from ledger.stores.urls import parse_url
from ledger.warehouse.bigquery.clients import Clients
from ledger.warehouse.bigquery.settings import MAXIMUM_BYTES_BILLED, RETRY_TIMEOUT, Dataset, Emulator, emulator, parse

PLACE = "my-project/my_dataset"


def test_a_url_names_project_and_dataset_and_the_rest_has_defaults():
    assert parse_url(f"bigquery://{PLACE}") == Dataset("my-project", "my_dataset")
    found = parse(PLACE)
    assert (found.strict, found.transport, found.location, dict(found.labels)) == (False, "storage", None, {})
    assert (found.maximum_bytes_billed, found.retry_timeout) == (MAXIMUM_BYTES_BILLED, RETRY_TIMEOUT)
    assert found.url == f"bigquery://{PLACE}"


@pytest.mark.parametrize(
    ("rest", "project", "dataset"),
    [
        ("/my_dataset", "", "my_dataset"),  # the project is the one of the credentials
        ("example.com:my-project/d", "example.com:my-project", "d"),
        ("my-project/_D9", "my-project", "_D9"),
    ],
)
def test_the_forms_that_google_gives_to_names_are_taken(rest, project, dataset):
    found = parse(rest)
    assert (found.project, found.name) == (project, dataset)


@pytest.mark.parametrize(
    ("option", "attribute", "value"),
    [
        ("appends=strict", "strict", True),
        ("appends=STRICT", "strict", True),
        ("appends=lenient", "strict", False),
        ("transport=storage", "transport", "storage"),
        ("transport=insertall", "transport", "insertall"),
        ("location=EU", "location", "EU"),
        ("location=europe-west3", "location", "europe-west3"),
        ("maximum_bytes_billed=1", "maximum_bytes_billed", 1),
        ("maximum_bytes_billed=10485760", "maximum_bytes_billed", 10485760),
        ("lookup_maximum_bytes_billed=10485760", "lookup_maximum_bytes_billed", 10485760),
        ("retry_timeout=0.5", "retry_timeout", 0.5),
        ("patience=600", "retry_timeout", 600.0),
        ("labels=team=analytics", "labels", {"team": "analytics"}),
        ("labels=team=analytics,env=prod-2", "labels", {"team": "analytics", "env": "prod-2"}),
        ("labels=team%3Danalytics%2Cenv%3Dprod", "labels", {"team": "analytics", "env": "prod"}),
        ("labels=team=", "labels", {"team": ""}),
        ("labels=", "labels", {}),
    ],
)
def test_an_option_is_taken(option, attribute, value):
    found = getattr(parse(f"{PLACE}?{option}"), attribute)
    assert (found, type(found)) == (value, type(value))


def test_look_ups_have_at_least_the_budget_of_other_statements():
    assert parse(f"{PLACE}?maximum_bytes_billed={2**40}").lookup_maximum_bytes_billed == 2**40
    assert parse(f"{PLACE}?maximum_bytes_billed=7").lookup_maximum_bytes_billed == MAXIMUM_BYTES_BILLED


def test_options_stand_together_in_any_order():
    text = "patience=5&labels=a=b&transport=insertall&appends=strict&location=EU&maximum_bytes_billed=7"
    expected = Dataset("my-project", "my_dataset", True, "insertall", "EU", 7, 5.0, {"a": "b"})
    assert parse(f"{PLACE}?{text}") == parse(f"{PLACE}?{'&'.join(reversed(text.split('&')))}") == expected


@pytest.mark.parametrize(
    ("rest", "named"),
    [
        ("", "PROJECT/DATASET"),
        ("my-project", "PROJECT/DATASET"),
        ("my-project/", "PROJECT/DATASET"),
        ("?appends=strict", "PROJECT/DATASET"),
        ("my-project/my-dataset", "dataset"),
        ("my-project/my_dataset/", "dataset"),
        ("my-project/my_dataset/events", "dataset"),
        ("my-project/d`; DROP", "dataset"),
        ("My-Project/d", "project"),
        ("p/d", "project"),
        ("my_project/d", "project"),
        (f"{PLACE}?appends=loose", "appends"),
        (f"{PLACE}?appends=", "appends"),
        (f"{PLACE}?appends", "appends"),
        (f"{PLACE}?transport=rest", "transport"),
        (f"{PLACE}?location=", "location"),
        (f"{PLACE}?location=the moon", "location"),
        (f"{PLACE}?location=eu'", "location"),
        (f"{PLACE}?maximum_bytes_billed=0", "maximum_bytes_billed"),
        (f"{PLACE}?maximum_bytes_billed=-1", "maximum_bytes_billed"),
        (f"{PLACE}?maximum_bytes_billed=0.5", "maximum_bytes_billed"),  # as a whole number it would be none at all
        (f"{PLACE}?maximum_bytes_billed=1GB", "maximum_bytes_billed"),
        (f"{PLACE}?maximum_bytes_billed={10**18}", "maximum_bytes_billed"),
        (f"{PLACE}?maximum_bytes_billed=", "maximum_bytes_billed"),
        (f"{PLACE}?retry_timeout=0", "retry_timeout"),
        (f"{PLACE}?retry_timeout=forever", "retry_timeout"),
        (f"{PLACE}?retry_timeout=nan", "retry_timeout"),
        (f"{PLACE}?retry_timeout=inf", "retry_timeout"),
        (f"{PLACE}?retry_timeout=1e3", "retry_timeout"),
        (f"{PLACE}?patience=1e3", "retry_timeout"),  # by its former name
        (f"{PLACE}?labels=team", "label"),
        (f"{PLACE}?labels=Team=x", "label"),
        (f"{PLACE}?labels=team=X", "label"),
        (f"{PLACE}?labels=team=x y", "label"),
        (f"{PLACE}?labels==x", "label"),
        (f"{PLACE}?labels={'a' * 64}=x", "label"),
        (f"{PLACE}?labels=a={'x' * 64}", "label"),
        (f"{PLACE}?labels=a='),('b", "label"),
        (f"{PLACE}?strict=true", "strict"),
        (f"{PLACE}?synchronous=FULL", "synchronous"),
        (f"{PLACE}?Patience=1", "Patience"),
        (f"{PLACE}?appends=strict&appends=lenient", "appends"),
        (f"{PLACE}?retry_timeout=1&patience=1", "retry_timeout"),
    ],
)
def test_what_is_wrong_in_a_url_is_named(rest, named):
    with pytest.raises(ConfigurationError, match=named):
        parse(rest)


def test_an_unknown_option_is_answered_with_those_that_there_are():
    with pytest.raises(ConfigurationError) as refused:
        parse(f"{PLACE}?strict=true")
    options = ("appends", "transport", "location", "maximum_bytes_billed", "lookup_maximum_bytes_billed")
    for option in (*options, "retry_timeout", "labels"):
        assert option in str(refused.value)


# Emulators


@pytest.mark.parametrize(
    ("rest", "grpc", "expected"),
    [
        ("localhost:9050", None, Emulator("http://localhost:9050", "localhost:9060")),
        ("http://localhost:9050", None, Emulator("http://localhost:9050", "localhost:9060")),
        ("http://localhost:9050/", "localhost:1", Emulator("http://localhost:9050", "localhost:1")),
        ("127.0.0.1:65535", "http://127.0.0.1:9061", Emulator("http://127.0.0.1:65535", "127.0.0.1:9061")),
        ("bigquery-emulator.svc:80", "", Emulator("http://bigquery-emulator.svc:80", "bigquery-emulator.svc:9060")),
        ("[::1]:9050", None, Emulator("http://[::1]:9050", "[::1]:9060")),
        ("http://[::1]:9050", "[fe80::2]:9061", Emulator("http://[::1]:9050", "[fe80::2]:9061")),
        (" localhost:9050\n", None, Emulator("http://localhost:9050", "localhost:9060")),
    ],
)
def test_an_emulator_is_found_at_its_addresses(rest, grpc, expected):
    settings = {"BIGQUERY_EMULATOR_HOST": rest}
    if grpc is not None:
        settings["BIGQUERY_EMULATOR_GRPC_HOST"] = grpc
    assert emulator(settings) == expected


@pytest.mark.parametrize("settings", [{}, {"BIGQUERY_EMULATOR_HOST": ""}, {"BIGQUERY_EMULATOR_GRPC_HOST": "nowhere"}])
def test_without_an_emulators_address_the_service_is_meant(settings):
    assert emulator(settings) is None


BAD_ADDRESSES = [
    "localhost",
    "localhost:",
    ":9050",
    "localhost:0",
    "localhost:65536",
    "localhost:99999999999",
    "localhost:-1",
    "localhost:http",
    "local host:9050",
    "localhost:9050/bigquery/v2",
    "localhost:9050?x=y",
    "user:password@localhost:9050",
    "::1:9050",
    "[::1]",
    "[::1:9050",
    "[localhost]:9050",
    "https://localhost:9050",  # no emulator has a certificate, and to talk to it in the clear is not what this says
    "ftp://localhost:9050",
    "http://",
    "localhost:\u0669\u0660\u0665\u0660",  # digits, though not those of a port
]


@pytest.mark.parametrize("address", BAD_ADDRESSES)
@pytest.mark.parametrize("setting", ["BIGQUERY_EMULATOR_HOST", "BIGQUERY_EMULATOR_GRPC_HOST"])
def test_an_address_that_is_none_is_refused_and_its_setting_named(setting, address):
    settings = {"BIGQUERY_EMULATOR_HOST": "localhost:9050", setting: address}
    with pytest.raises(ConfigurationError, match=f"^{setting} is "):
        emulator(settings)
    with pytest.raises(ConfigurationError, match=f"^{setting} is "):
        Clients(parse(PLACE), settings)


# The project, and credentials

AN_EMULATOR = {"BIGQUERY_EMULATOR_HOST": "localhost:1"}


def test_the_project_is_that_of_the_url_else_that_of_the_environment():
    settings = {**AN_EMULATOR, "GOOGLE_CLOUD_PROJECT": "another-project"}
    assert Clients(parse(PLACE), settings).project == "my-project"
    assert Clients(parse("/my_dataset"), settings).project == "another-project"


def test_a_project_that_is_named_nowhere_is_asked_for():
    with pytest.raises(ConfigurationError, match="GOOGLE_CLOUD_PROJECT"):
        Clients(parse("/my_dataset"), AN_EMULATOR).project  # noqa: B018 - a property that raises


def test_no_client_is_made_and_no_credentials_are_looked_for_before_one_is_used(monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    clients = Clients(parse(PLACE), {})
    assert clients.project == "my-project"
    clients.close()
    clients.close()


@pytest.mark.parametrize(
    "content",
    [
        None,
        "no JSON: s3cret",
        json.dumps({"type": "unheard_of", "private_key": "s3cret"}),
        json.dumps({"type": "service_account", "client_email": "a@b.c", "token_uri": "u", "private_key": "s3cret"}),
        json.dumps({"type": "authorized_user", "client_secret": "s3cret"}),
    ],
)
def test_a_key_file_that_is_none_is_a_matter_of_settings_and_is_not_quoted(tmp_path, monkeypatch, content):
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(ConfigurationError, match="GOOGLE_APPLICATION_CREDENTIALS") as refused:
        Clients(parse(PLACE), {}).rest  # noqa: B018 - a property that raises
    assert "s3cret" not in str(refused.value)
