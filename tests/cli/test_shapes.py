"""The JSON of a session has every field."""

from __future__ import annotations

from ledger import Session
from ledger.cli.output.shapes import session_object
from ledger.model.fields import FIELDS
from ledger.model.session import Head
from ledger.testing import START


def test_every_field_is_in_the_json_of_a_session_under_its_attribute() -> None:
    head = Head("s", "ada", START, 1, START, None, "store")
    found = session_object(Session(head, {}, with_messages=True))
    within_tool_calls = {"calls", "tool_call_status", "tool_call_results"}
    assert {field.attribute for field in FIELDS.values()} - within_tool_calls <= found.keys()
