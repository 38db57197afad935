"""What the messages of BigQuery's errors do not say."""

from __future__ import annotations

import re

import pytest
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from ledger.warehouse.bigquery.errors import message_of, translate
from support.bigquery_answers import rest

# What messages do not say

SECRETS = [
    auth.RefreshError("No access token in response.", {"id_token": "s3cret", "refresh_token": "s3cret"}),
    auth.RefreshError("Unable to refresh: {'access_token': 's3cret', 'expires_in': 3599}"),
    requests.exceptions.InvalidHeader("return character(s) in header value: 'Bearer s3cret\\n'"),
    api.BadRequest("Failed with Authorization: Bearer s3cret, sorry"),
    api.BadRequest("Failed with headers {'authorization': 'Bearer s3cret'}"),
    api.BadRequest("Failed with Bearer ya29.a0-s3cret_s3cret"),
    api.Forbidden("Cannot read https://storage.googleapis.com/b/o?X-Goog-Credential=a&X-Goog-Signature=s3cret now"),
    requests.exceptions.ConnectionError("Max retries exceeded with url: /b/o?key=s3cret (Caused by E)"),
    api.BadRequest('Wrong key {"private_key": "s3cret", "type": "service_account"}'),
    api.BadRequest("Wrong key -----BEGIN PRIVATE KEY-----s3cret-----END PRIVATE KEY-----"),
    api.BadRequest("Token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJz.s3cret is not valid"),
    api.BadRequest("API key not valid: AIza" + "s3cret" * 5 + "12345"),
    api.BadRequest("invalid_client: client_secret=s3cret"),
]


@pytest.mark.parametrize("error", SECRETS, ids=lambda error: str(error)[:40])
def test_tokens_keys_and_signatures_are_left_out(error):
    found = str(translate(error, "The state"))
    assert "s3cret" not in found
    assert "***" in found or error.args[1:] or "Max retries" in found


def test_the_token_that_could_not_be_sent_is_not_said():
    with pytest.raises(requests.exceptions.InvalidHeader) as raised:
        requests.get("http://127.0.0.1:1", headers={"Authorization": "Bearer s3cret\n"}, timeout=1)
    assert "s3cret" in str(raised.value)
    assert "s3cret" not in str(translate(raised.value, "The state"))


def test_the_address_that_was_asked_is_left_out():
    with pytest.raises(requests.exceptions.ConnectionError) as raised:
        requests.get("http://127.0.0.1:1/bigquery/v2/projects/p/queries?prettyPrint=false", timeout=1)
    found = str(translate(raised.value, "The state"))
    assert re.search(r"127\.0\.0\.1|port|bigquery/v2", found) is None
    assert "Connection refused" in found


@pytest.mark.parametrize(
    "said",
    [
        "Unrecognized name: access_token at [1:8]",
        "Syntax error: Expected end of input but got identifier key at [1:10]",
        "No matching signature for operator = for argument types: STRING, INT64 at [1:29]",
        "Not found: Table p:d.bearer was not found in location US",
        "Could not parse 'a ? b = c' as JSON",
    ],
)
def test_what_is_no_secret_is_said_as_it_is(said):
    assert message_of(rest(400, "invalidQuery", said)) == said


def test_a_message_is_one_line_of_a_readable_length():
    assert message_of(rest(400, "invalidQuery", "Syntax error\n\nLocation: US\nJob ID: j")) == "Syntax error"
    assert message_of(api.BadRequest("")) == "400"
    assert message_of(ValueError()) == "ValueError"
    assert len(message_of(api.BadRequest("x" * 10_000))) == 500
