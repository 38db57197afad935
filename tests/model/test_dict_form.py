"""What a service returns is written as ``to_dict`` writes it, by pydantic and by FastAPI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from ledger import Difference, Finding, Message, Page, RecordedChange, RecordedEvent, Session, SessionLedger, ToolCall


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionLedger]:
    path: Path = tmp_path_factory.mktemp("written") / "ledger.db"
    with SessionLedger(f"sqlite:///{path}") as opened:
        opened.create_session("ada", "How many?", session_id="s")
        opened.add_message("s", "user", {"text": "hi"})
        opened.update_tool_call_status("s", "search", "completed", {"rows": 1})
        opened.update_tool_call_status("s", "plot", "running")
        opened.update_summary("s", "S")
        opened.add_tags("s", "t")
        opened.update_session("s", {"x_own": 1, "constraints": {"a": 1}, "context": {"a": [1]}})
        yield opened


def handed_out(ledger: SessionLedger) -> list[tuple[Any, list[Any]]]:
    """Each type that a service may declare, and a list of values of this type."""
    session, events = ledger.require_session("s", messages=True), ledger.history("s")
    differences = ledger.diff("s", 3, 5)
    return [
        (Difference, differences),
        (RecordedEvent, events),
        (RecordedChange, list(events[0].changes)),
        (Message, ledger.get_messages("s")),
        (ToolCall, [*session.calls, *ledger.get_tool_calls("s")]),
        (Session, [session]),
    ]


TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}


def check(value: Any, schema: dict[str, Any]) -> None:
    """Check a value against a JSON schema, as far as the ledger's schemas go; it has no key that the schema lacks."""
    kinds = schema.get("type", [])
    assert not kinds or isinstance(value, tuple(TYPES[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds)))
    assert value in schema.get("enum", [value])
    if "properties" in schema:
        assert set(schema["required"]) <= value.keys() <= schema["properties"].keys()
        for name, part in value.items():
            check(part, schema["properties"][name])
    for item in value if "items" in schema else ():
        check(item, schema["items"])


def test_pydantic_takes_each_object_as_it_is_and_writes_its_dictionary_which_fits_its_schema(
    ledger: SessionLedger,
) -> None:
    for kind, values in handed_out(ledger):
        adapter = TypeAdapter(list[kind])
        assert adapter.validate_python(values)[0] is values[0]
        written = [value.to_dict() for value in values]
        assert written
        assert adapter.dump_python(values) == json.loads(adapter.dump_json(values)) == written
        schema = adapter.json_schema(mode="serialization")["items"]
        assert schema["title"] == kind.__name__
        for each in written:
            check(each, schema)
        with pytest.raises(ValidationError, match=f"instance of {kind.__name__}"):
            adapter.validate_python(written)


def test_pydantic_writes_a_page_as_the_list_of_its_items(ledger: SessionLedger) -> None:
    for kind, values in handed_out(ledger):
        page = Page(values, next="5")
        written = [value.to_dict() for value in values]
        for declared in (Page[kind], Page):
            adapter: TypeAdapter[Any] = TypeAdapter(declared)
            assert adapter.validate_python(page) is page
            assert json.loads(adapter.dump_json(page)) == written
            assert adapter.json_schema(mode="serialization")["type"] == "array"
    assert TypeAdapter(Page[str]).dump_python(Page(["a"])) == TypeAdapter(Page).dump_python(Page(["a"])) == ["a"]


def test_a_finding_is_written_with_its_fields() -> None:
    finding = Finding("s", 2, "hash", "The hash differs.")
    written = {"session_id": "s", "version": 2, "code": "hash", "message": "The hash differs.", "mendable": False}
    assert TypeAdapter(list[Finding]).dump_python([finding]) == [written]


class Answer(BaseModel):
    events: Page[RecordedEvent]
    next: str | None


async def got(app: Any, path: str) -> Any:
    """The body with which a service answers a request."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    place = {"path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": []}
    await app({"type": "http", "method": "GET", "scheme": "http", **place}, receive, send)
    assert sent[0]["status"] == 200
    return json.loads(b"".join(it.get("body", b"") for it in sent))


def test_fastapi_answers_with_dictionaries(ledger: SessionLedger) -> None:
    app = pytest.importorskip("fastapi", reason="installed with Python 3.13 alone").FastAPI()

    @app.get("/diff")
    async def diff() -> list[Difference]:
        return ledger.diff("s", 4, 5)

    @app.get("/messages")
    async def messages() -> list[Message]:
        return ledger.get_messages("s")

    @app.get("/history")
    async def history() -> Answer:
        page = ledger.history("s", limit=2)
        return Answer(events=page, next=page.next)

    async def scenario() -> None:
        assert await got(app, "/diff") == [{"field": "summary", "key": "", "after": "S"}]
        assert await got(app, "/messages") == [ledger.get_messages("s")[0].to_dict()]
        events = [event.to_dict() for event in ledger.history("s", limit=2)]
        assert await got(app, "/history") == {"events": events, "next": "2"}
        paths = (await got(app, "/openapi.json"))["paths"]
        assert {"/diff", "/messages", "/history"} <= paths.keys()
        (answer,) = paths["/messages"]["get"]["responses"]["200"]["content"].values()
        assert answer["schema"]["items"]["properties"]["recorded_at"] == {"type": "string", "format": "date-time"}

    asyncio.run(scenario())
