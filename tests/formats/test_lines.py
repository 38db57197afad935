"""Forms of the input of an import: byte order marks, UTF-16, arrays and indented JSON, and files of other formats."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger import InvalidInput, SessionLedger
from ledger.formats.lines import items, records
from support.shell import Shell

RUNS = [[{"role": "user", "content": f"käse {number}"}] for number in range(3)]
ROWS = [
    {"session_id": f"s{number}", "user_id": "ada", "question": "käse", "status": "active", **times}
    for number in range(3)
    for times in [{"created_at": "2026-03-01 10:00:00 UTC", "updated_at": "2026-03-01 10:00:00 UTC"}]
]


FORMS: dict[str, Callable[[list[Any]], bytes]] = {
    "lines": lambda values: b"".join(json.dumps(value).encode() + b"\n" for value in values),
    "without a last line break": lambda values: b"\n".join(json.dumps(value).encode() for value in values),
    "Windows line breaks": lambda values: b"".join(json.dumps(value).encode() + b"\r\n" for value in values),
    "an array on one line": lambda values: json.dumps(values, ensure_ascii=False).encode(),
    "an indented array": lambda values: json.dumps(values, indent=2, ensure_ascii=False).encode(),
    "an item on each line": lambda values: b"[" + b",\n ".join(json.dumps(value).encode() for value in values) + b"]\n",
    "one after another, indented": lambda values: b"\n\n".join(json.dumps(it, indent=1).encode() for it in values),
}
ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "UTF-8": lambda text: text,
    "UTF-8 with a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "UTF-16 as PowerShell writes it": lambda text: b"\xff\xfe" + text.decode().encode("utf-16-le"),
    "UTF-16, big endian": lambda text: b"\xfe\xff" + text.decode().encode("utf-16-be"),
}


def test_every_form_in_every_encoding_is_read_as_the_same_values() -> None:
    for form, written in FORMS.items():
        for encoding, encoded in ENCODINGS.items():
            lines = encoded(written(ROWS)).splitlines(keepends=True)
            found = [json.loads(item.text) for record in records(lines) for item in items(record)]
            assert found == ROWS, (form, encoding)


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name.startswith("UTF-16")])
def test_utf_16_is_the_same_text_wherever_its_bytes_are_cut(encoding: str) -> None:
    """The characters U+0Axx and U+xx0A have the byte of a line break, at which files are cut."""
    values = ["ਅਆਇ" * 300, "\u010a\u0a0a\u0a0d", "", "😀\u0a05" * 5, "plain"]
    text = "\n".join(json.dumps(value, ensure_ascii=False) for value in [*values, "ਅ\u0a0a"])
    encoded = ENCODINGS[encoding](text.encode())
    for size in (1, 3, 7, 1000, len(encoded)):
        cut = [encoded[at : at + size] for at in range(0, len(encoded), size)]
        lines = [b"".join(cut[:2]), *cut[2:]]  # the first line has the byte order mark
        assert [json.loads(record.text) for record in records(lines)] == [*values, "ਅ\u0a0a"], size
    found = list(records(encoded.splitlines(keepends=True)))
    assert [json.loads(record.text) for record in found] == [*values, "ਅ\u0a0a"]
    assert [record.line for record in found] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("form", ["lines", "an indented array"])
@pytest.mark.parametrize("format_name", ["events", "openai-chat", "sessions-table"])
def test_each_format_is_imported_in_each_form(
    shell: Shell, tmp_path: Path, format_name: str, form: str, encoding: str
) -> None:
    values: list[Any] = {"openai-chat": RUNS, "sessions-table": ROWS}.get(format_name, [])
    if format_name == "events":
        with SessionLedger.open(f"sqlite:///{tmp_path / 'source.db'}?synchronous=NORMAL") as source:
            for number in range(3):
                source.create_session("käse", "ada", session_id=f"s{number}")
        values = [json.loads(line) for line in Shell(tmp_path / "source.db").ok("export").splitlines()]
    (tmp_path / "input").write_bytes(ENCODINGS[encoding](FORMS[form](values)))
    assert shell.json("import", "--format", format_name, str(tmp_path / "input"))["sessions"] == 3
    assert len(shell.json("list")["sessions"]) == 3


def test_a_single_indented_run_is_a_run(shell: Shell, tmp_path: Path) -> None:
    for number, run in enumerate((RUNS[0], {"messages": RUNS[1]})):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(run, indent=4), encoding="utf-8")
        assert shell.json("import", "--format", "openai-chat", str(path))["sessions"] == 1


def test_an_error_in_an_indented_file_names_the_line_of_the_value(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    path.write_text(json.dumps([RUNS[0], [{"role": "robot"}]], indent=2), encoding="utf-8")
    assert shell.fails("import", "--format", "openai-chat", str(path))[1].startswith("Line 8, item 2: ")
    path.write_text(json.dumps([RUNS[0]], indent=2)[:-1], encoding="utf-8")
    assert "Line 1: invalid JSON" in shell.fails("import", "--format", "openai-chat", str(path))[1]


def test_a_damaged_first_line_is_one_line_and_not_the_whole_file(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_bytes(b'{"messages": [\n' + FORMS["lines"](RUNS))
    result = shell("import", "--format", "openai-chat", "--skip-refused", str(path))
    assert (result.exit_code, result.stdout) == (1, "3 sessions, 9 events: 9 new; 1 left out.\n")


OTHERS = {
    "a ledger": (b"SQLite format 3\x00" + b"\x00" * 84, "a SQLite database"),
    "gzip": (gzip.compress(FORMS["lines"](RUNS)), "a gzip file. Decompress it first: gunzip -c FILE | ledger import -"),
    "Parquet": (b"PAR1\x15\x04", "a Parquet file"),
    "CSV": (b"session_id,user_id,question\ns1,ada,why\n", "CSV"),
    "ChatGPT": (json.dumps([{"title": "t", "mapping": {}}]).encode(), "an export of ChatGPT"),
    "ShareGPT": (
        json.dumps({"conversations": [{"from": "human", "value": "hi"}]}).encode(),
        "conversations with other",
    ),
    "spans": (json.dumps({"resourceSpans": []}).encode(), "spans of OpenTelemetry"),
}


@pytest.mark.parametrize("format_name", ["events", "openai-chat", "sessions-table"])
@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_of_another_kind_is_named(shell: Shell, tmp_path: Path, format_name: str, kind: str) -> None:
    content, named = OTHERS[kind]
    (tmp_path / "input").write_bytes(content)
    code, message = shell.fails("import", "--format", format_name, str(tmp_path / "input"))
    assert code == 3
    assert f"his looks like {named}" in message


@pytest.mark.parametrize("imported_as", ["events", "openai-chat", "sessions-table"])
def test_a_file_of_another_of_the_formats_is_named_with_its_option(
    shell: Shell, tmp_path: Path, imported_as: str
) -> None:
    with SessionLedger.open(f"sqlite:///{tmp_path / 'source.db'}?synchronous=NORMAL") as source:
        source.create_session("why", "ada")
    files = {
        "events": Shell(tmp_path / "source.db").ok("export").encode(),
        "openai-chat": FORMS["lines"](RUNS),
        "sessions-table": FORMS["lines"](ROWS),
    }
    for format_name, content in files.items():
        (tmp_path / "input").write_bytes(content)
        if format_name == imported_as:
            shell.ok("import", "--format", imported_as, str(tmp_path / "input"))
        else:
            _, message = shell.fails("import", "--format", imported_as, str(tmp_path / "input"))
            assert f"with --format {format_name}." in message


def test_utf_16_that_is_cut_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not valid UTF-16"):
        list(records([b"\xff\xfe[\x00]"]))
