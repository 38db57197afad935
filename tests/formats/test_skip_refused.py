"""An import with --skip-refused goes on behind what cannot be recorded, and lists what it left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger import SessionLedger
from support.shell import Shell

BAD_RUNS = {
    "half an emoji": '[{"role": "user", "content": "half \\ud83d"}]',
    "NaN": '[{"role": "user", "content": "n", "score": NaN}]',
    "too large": json.dumps([{"role": "user", "content": [{"type": "image_url", "url": "x" * 17_000_000}]}]),
    "not JSON": '[{"role": "user"',
    "no role": '[{"content": "n"}]',
    "nothing of a run": "7",
}


def importing(shell: Shell, tmp_path: Path, format_name: str, *lines: str) -> tuple[int, dict[str, Any], list[str]]:
    path = tmp_path / "input.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    result = shell("import", "--format", format_name, "--skip-refused", str(path), "--json")
    return result.exit_code, json.loads(result.stdout), result.stderr.splitlines()


@pytest.mark.parametrize("kind", BAD_RUNS)
def test_runs_around_a_bad_one_are_recorded(shell: Shell, tmp_path: Path, kind: str) -> None:
    good = [json.dumps([{"role": "user", "content": str(number)}]) for number in range(3)]
    code, done, left_out = importing(shell, tmp_path, "openai-chat", good[0], BAD_RUNS[kind], *good[1:])
    assert (code, done["sessions"], done["new_events"]) == (1, 3, 9)
    assert left_out == [f"left out: {message}" for message in done["left_out"]]
    assert [message.split(":")[0] for message in done["left_out"]] == ["Line 2"]
    assert sorted(each["question"] for each in shell.json("list")["sessions"]) == ["0", "1", "2"]


def test_an_import_of_which_nothing_is_refused_succeeds(shell: Shell, tmp_path: Path) -> None:
    code, done, left_out = importing(shell, tmp_path, "openai-chat", '[{"role": "user", "content": "a"}]')
    assert (code, done["left_out"], left_out) == (0, [], [])


def test_a_run_that_is_recorded_with_other_content_is_left_out(shell: Shell, tmp_path: Path) -> None:
    runs = [json.dumps({"id": str(n), "messages": [{"role": "user", "content": str(n)}]}) for n in range(4)]
    importing(shell, tmp_path, "openai-chat", runs[2].replace('"content": "2"', '"content": "other"'))
    code, done, left_out = importing(shell, tmp_path, "openai-chat", *runs)
    assert (code, done["sessions"], len(left_out)) == (1, 3, 1)
    assert left_out[0].startswith("left out: Line 3: session 2: version 2, event ")


def test_rows_around_bad_ones_are_recorded(shell: Shell, tmp_path: Path) -> None:
    def row(number: int, **other: Any) -> str:
        times = dict.fromkeys(("created_at", "updated_at"), f"2026-03-01 10:0{number}:00 UTC")
        owned = {"session_id": f"s{number % 2}", "user_id": "ada", "question": "q", "status": f"step{number}"}
        return json.dumps({**owned, **times, **other})

    bad = [row(2, updated_at="noon"), "[7]", "{", row(3, user_id="mia")]
    code, done, left_out = importing(shell, tmp_path, "sessions-table", row(0), row(1), *bad, row(4), row(5))
    assert (code, done["sessions"], done["new_events"], len(left_out)) == (1, 2, 4, 4)
    assert [message.split(": ")[1] for message in left_out] == ["Line 3", "Line 4, item 1", "Line 5", "Line 6"]


@pytest.fixture
def exported(tmp_path: Path) -> list[str]:
    """The export of three sessions with three events each; newest first."""
    with SessionLedger.open(f"sqlite:///{tmp_path / 'source.db'}?synchronous=NORMAL") as source:
        for name in ("one", 'two "2"', "three"):
            source.create_session(name, "ada", session_id=name)
            source.add_message(name, "user", "hello")
            source.add_message(name, "assistant", "hello")
    return Shell(tmp_path / "source.db").ok("export").splitlines()


def versions(shell: Shell) -> dict[str, int]:
    return {each["session_id"]: each["version"] for each in shell.json("list")["sessions"]}


@pytest.mark.parametrize("index", [3, 4, 5])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line[:-1],
        lambda line: line.replace('"message.added"', "7").replace('"session.created"', "7"),
        lambda line: line.replace('"event_hash":"', '"event_hash":"0'),
    ],
    ids=["cut", "no event", "another hash"],
)
def test_the_session_of_a_bad_event_is_left_out_and_no_other(
    shell: Shell, tmp_path: Path, exported: list[str], index: int, spoil: Any
) -> None:
    exported[index] = spoil(exported[index])
    code, done, left_out = importing(shell, tmp_path, "events", *exported)
    assert versions(shell) == {"one": 3, "three": 3}
    assert (code, done["sessions"], done["events"], len(left_out)) == (1, 2, 6, 1)
    assert left_out[0].startswith(f"left out: Line {index + 1}: ")


def test_a_line_that_tells_no_session_costs_the_sessions_around_it_at_most(
    shell: Shell, tmp_path: Path, exported: list[str]
) -> None:
    exported[4] = "{"
    code, _, left_out = importing(shell, tmp_path, "events", *exported)
    assert versions(shell) == {"one": 3, "three": 3}
    assert (code, left_out[0].split(":")[1].strip()) == (1, "Line 5")
