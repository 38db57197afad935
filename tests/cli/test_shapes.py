"""The JSON of a session: its keys are a promise, and new fields add theirs."""

from __future__ import annotations

from ledger import Session
from ledger.cli.output.shapes import session_object
from ledger.model.fields import FIELDS
from ledger.model.session import Head
from ledger.testing import START

PROMISED = """
session_id user_id question constraints response_plan strategy summary status tool_calls created_at updated_at version
title session_type expires_at error lineage attributes context results queries scores grants children tags free messages
"""


def keys() -> list[str]:
    head = Head("s", "ada", START, 1, START, None, "store")
    return list(session_object(Session(head, {}, with_messages=True)))


def test_the_keys_of_a_session_are_those_that_were_promised_in_their_order() -> None:
    assert [key for key in keys() if key in PROMISED.split()] == PROMISED.split()


def test_every_field_is_in_the_json_of_a_session_under_its_attribute() -> None:
    within_tool_calls = {"calls", "tool_call_status", "tool_call_results"}
    assert {field.attribute for field in FIELDS.values()} - within_tool_calls <= set(keys())
