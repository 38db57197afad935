"""Recognition of a file that is imported in a format other than its own, so that the error can name it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: The first bytes of files that are not text, and what to do with them.
_BINARY: Mapping[bytes, str] = {
    b"SQLite format 3\x00": "this looks like a SQLite database. If it is a ledger, open it with `ledger -u "
    "sqlite:///FILE` or export it; the database of another session store is imported by `ledger import-store`.",
    b"\x1f\x8b": "this looks like a gzip file. Decompress it first: gunzip -c FILE | ledger import -",
    b"(\xb5/\xfd": "this looks like a Zstandard file. Decompress it first: zstd -dc FILE | ledger import -",
    b"PK\x03\x04": "this looks like a zip file. Decompress it first: unzip -p FILE | ledger import -",
    b"PAR1": "this looks like a Parquet file. If `ledger export` wrote it, import it with --format parquet; otherwise "
    "export the table as JSON Lines.",
    b"Obj\x01": "this looks like an Avro file. Export the table as JSON Lines.",
}
_EVENT = frozenset(("session_id", "event_id", "event_type", "changes"))
_ROW = frozenset(("session_id", "user_id", "question", "updated_at"))
_RUN = ("messages", "traj", "items", "output")


def binary_kind(start: bytes) -> str | None:
    """Return what a file that begins with these bytes looks like; None if it may be JSON text."""
    return next((kind for magic, kind in _BINARY.items() if start.startswith(magic)), None)


def hint(value: Any, imported_as: str) -> str:
    """Return a sentence that names the format of a value, or nothing if it is unknown or the one that is imported.

    Args:
        value: The first value of the input, or the text of its first line if it is not JSON.
        imported_as: The format that the value was refused as.
    """
    kind = _kind(value)
    if kind is None or kind[0] == imported_as:
        return ""
    return f" This looks like {kind[1]}"


def text_hint(text: bytes, imported_as: str) -> str:
    """Return the hint for a text that is refused: see ``hint``."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text.decode(errors="replace")
    return hint(value, imported_as)


def _kind(value: Any) -> tuple[str, str] | None:
    """Return the format of a value, and what it looks like with what to do."""
    if isinstance(value, str):
        header = [name.strip().strip('"') for name in value.split(",")]
        csv = len(header) > 1 and all(name.replace("_", "").isalnum() for name in header)
        return ("csv", "CSV. Export the table as JSON Lines.") if csv else None
    if isinstance(value, list):
        return _kind(value[0]) if value else None
    if not isinstance(value, dict):
        return None
    if value.keys() >= _EVENT:
        return "events", "an export of a ledger: import it with --format events."
    if any(isinstance(value.get(name), list) for name in _RUN) or "role" in value:
        return "openai-chat", "recorded runs: import them with --format openai-chat."
    if value.keys() >= _ROW:
        return "sessions-table", "a table of sessions: import it with --format sessions-table."
    if isinstance(value.get("mapping"), dict):
        tree = "an export of ChatGPT, which keeps a conversation as a tree under 'mapping': write the messages of one "
        return "chatgpt", f"{tree}branch as a list of objects with role and content; import that as openai-chat."
    if isinstance(value.get("conversations"), list) or isinstance(value.get("chat_messages"), list):
        named = "conversations with other names for their messages: rename the list to 'messages', the keys of each "
        return "conversations", f"{named}message to role and content; import that as openai-chat."
    if "resourceSpans" in value or {"trace_id", "span_id"} <= value.keys():
        return "spans", "spans of OpenTelemetry, which this release does not import."
    return None
