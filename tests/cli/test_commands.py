"""Commands of the command line: what they print, and the JSON that they promise."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest

from ledger.cli.app import COMMANDS, ledger
from ledger.cli.values import holds_only_json, parse_value
from ledger.model.fields import FIELDS
from ledger.testing import SetClock
from support.shell import Shell

QUESTION = "What were the total orders for CFC1 in the last week?"
PLAN = '{"kpi": ["orders"], "tool_calls": [{"name": "Orders Trend", "tables": ["orders"]}]}'


def recorded(shell: Shell, clock: SetClock) -> str:
    """A session of six events, a second apart."""
    session_id = shell.ok("new", QUESTION, "--user", "user123", "--tag", "weekly", "--attribute", "n:=2").strip()
    for args in (
        ("set", session_id, "constraints", PLAN),
        ("tool", session_id, "Orders Trend", "completed", "--result", '{"rows": 3}'),
        ("message", session_id, "user", "And the week before?"),
        ("set", session_id, "summary", "Orders peaked."),
        ("set", session_id, "status", "completed"),
    ):
        clock.move(1)
        shell.ok(*args)
    return session_id


def test_a_session_is_shown_as_one_page(shell: Shell, still: SetClock) -> None:
    session_id = recorded(shell, still)
    assert (
        shell.ok("show", session_id, "--messages")
        == f"""\
session   {session_id}
user      user123
status    completed
version   6, 2026-03-05 09:30:05 UTC
created   2026-03-05 09:30:00 UTC
tags      weekly
question  What were the total orders for CFC1 in the last week?
constraints ────────────────────────────────────────────────────────────────────
  {{
    "kpi": [
      "orders"
    ],
    "tool_calls": [
      {{
        "name": "Orders Trend",
        "tables": [
          "orders"
        ]
      }}
    ]
  }}
tool calls ─────────────────────────────────────────────────────────────────────
  call          status     result
  Orders Trend  completed  {{"rows":3}}
summary ────────────────────────────────────────────────────────────────────────
  Orders peaked.
attributes ─────────────────────────────────────────────────────────────────────
  {{
    "n": 2
  }}
messages ───────────────────────────────────────────────────────────────────────
user  version 4, 2026-03-05 09:30:03 UTC
  And the week before?
"""
    )


def test_a_session_is_shown_as_it_was_at_a_version_and_at_a_time(shell: Shell, still: SetClock) -> None:
    session_id = recorded(shell, still)
    assert shell.json("show", session_id, "--version", "2")["tool_calls"][0]["status"] == "pending"
    assert shell.json("show", session_id, "--at", "2026-03-05T09:30:02Z")["version"] == 3
    assert "status    active" in shell.ok("show", session_id, "--version", "5")


def test_the_history_is_a_timeline(shell: Shell, still: SetClock) -> None:
    session_id = recorded(shell, still)
    assert (
        shell.ok("history", session_id)
        == """\
v  recorded      event              change
1  09:30:00.000  session.created    question = What were the total orders for C…
                                    status = active
                                    tag[weekly] = true
                                    attribute[n] = 2
2  09:30:01.000  session.updated    constraints = {"kpi":["orders"],"tool_calls…
                                    tool_call[Orders Trend] = {"name":"Orders T…
                                    tool_call_status[Orders Trend] = pending
3  09:30:02.000  tool_call.updated  tool_call_status[Orders Trend] = completed
                                    tool_call_result[Orders Trend] = {"rows":3}
4  09:30:03.000  message.added      message = user: And the week before?
5  09:30:04.000  session.updated    summary = Orders peaked.
6  09:30:05.000  session.updated    status = completed
"""
    )


def test_a_difference_shows_what_was_and_what_is(shell: Shell, still: SetClock) -> None:
    session_id = recorded(shell, still)
    assert (
        shell.ok("diff", session_id, "4")
        == """\
status
  - active
  + completed
summary
  + Orders peaked.
"""
    )
    assert shell.ok("diff", session_id, "6", "6") == "No differences.\n"


def test_sessions_are_listed_newest_first_in_pages(shell: Shell, still: SetClock) -> None:
    first = recorded(shell, still)
    still.move(60)
    second = shell.ok("new", "Another").strip()
    assert (
        shell.ok("list")
        == f"""\
session                               user     status     v  question
{second}  ada      active     1  Another
{first}  user123  completed  6  What were the tota…
"""
    )
    page = shell.json("list", "--limit", "1")
    assert [session["session_id"] for session in page["sessions"]] == [second]
    rest = shell.json("list", "--after", page["next"])
    assert [session["session_id"] for session in rest["sessions"]] == [first]
    assert rest["next"] is None


def test_sessions_are_listed_by_their_last_events(shell: Shell, still: SetClock) -> None:
    first, second, third = (shell.ok("new", f"Question {number}?").strip() for number in range(3))
    still.move(60)
    shell.ok("set", second, "summary", "Orders peaked.")
    still.move(60)
    shell.ok("message", first, "user", "And the week before?")
    heading, *lines = shell("list", "--order-by", "updated", COLUMNS="120").stdout.splitlines()
    assert heading.split() == ["session", "user", "status", "v", "updated", "question"]
    assert [line.split()[0] for line in lines] == [first, second, third]
    page = shell.json("list", "--order-by", "updated", "--limit", "2")
    assert [session["session_id"] for session in page["sessions"]] == [first, second]
    rest = shell.json("list", "--order-by", "updated", "--after", page["next"])
    assert [session["session_id"] for session in rest["sessions"]] == [third]
    code, error = shell.fails("list", "--after", page["next"])
    assert code == 3
    assert error.startswith(
        "--after is a cursor of the order 'updated', and this list has the order 'created'; give all"
    )
    assert "pages of a list the same --order-by." in error


@pytest.mark.parametrize(
    ("criteria", "count"),
    [
        (["--user", "user123"], 1),
        (["--status", "active"], 1),
        (["--tag", "weekly"], 1),
        (["--attribute", "n:=2"], 1),
        (["--attribute", "n:=2.0"], 1),
        (["--attribute", "n=2"], 0),
        (["--since", "2026-03-06"], 0),
        (["--until", "2026-03-06"], 2),
    ],
)
def test_lists_take_criteria(shell: Shell, still: SetClock, criteria: list[str], count: int) -> None:
    recorded(shell, still)
    shell.ok("new", "Another")
    assert len(shell.json("list", *criteria)["sessions"]) == count


def test_json_of_a_session_keeps_its_promised_keys(shell: Shell, still: SetClock) -> None:
    session_id = recorded(shell, still)
    found = shell.json("show", session_id, "--messages")
    promised = [
        *("session_id", "user_id", "question", "constraints", "response_plan", "strategy", "summary", "status"),
        *("tool_calls", "created_at", "updated_at", "version", "title", "session_type", "expires_at"),
        *("error", "lineage", "attributes", "context", "results", "queries", "scores", "grants", "children"),
        *("tags", "free", "messages"),
    ]
    assert [key for key in found if key in promised] == promised  # a new field adds its own
    assert found["created_at"] == "2026-03-05T09:30:00.000000Z"
    assert found["tool_calls"] == [
        {
            "call_id": "Orders Trend",
            "name": "Orders Trend",
            "status": "completed",
            "definition": {"name": "Orders Trend", "tables": ["orders"]},
            "result": {"rows": 3},
        }
    ]
    (message,) = found["messages"]
    assert list(message) == [
        *("message_id", "version", "role", "content", "tools_used", "processing_time_ms", "token_count", "error"),
        *("metadata", "payload", "actor", "occurred_at", "recorded_at"),
    ]


def test_a_session_begun_twice_with_one_event_id_is_one_session(shell: Shell) -> None:
    first, again = (shell.ok("new", QUESTION, "--event-id", "job-42") for _ in range(2))
    assert first == again
    assert len(shell.json("list")["sessions"]) == 1


def test_json_of_events_differences_and_changes_keeps_its_promised_keys(shell: Shell, still: SetClock) -> None:
    session_id = recorded(shell, still)
    history = shell.json("history", session_id, "--limit", "2")
    assert list(history) == ["session_id", "events", "next"]
    assert list(history["events"][0]) == [
        *("version", "event_id", "idempotency_key", "event_type", "actor", "occurred_at", "recorded_at", "changes"),
    ]
    assert history["events"][0]["changes"][1] == {"field": "status", "key": "", "removed": False, "value": "active"}
    assert history["next"] == "2"
    assert shell.json("diff", session_id, "5")["differences"] == [
        {"field": "status", "key": "", "before": "active", "after": "completed"}
    ]
    changed = shell.json("set", session_id, "title", "T", "--event-id", "a key of mine")
    assert list(changed) == ["session_id", "version", "event_id", "replayed"]
    again = shell.json("set", session_id, "title", "T", "--event-id", "a key of mine")
    assert again == {**changed, "replayed": True}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["title", "1.0"], "1.0"),
        (["attribute", "1.0", "--key", "a"], "1.0"),
        (["attribute", "1.0", "--key", "a", "--json-value"], 1.0),
        (["strategy", "{}"], "{}"),
        (["strategy", "{}", "--json-value"], {}),
        (["constraints", "{}"], {}),
        (["x_note", "null"], "null"),
    ],
)
def test_a_value_is_text_unless_json_is_asked_for(shell: Shell, args: list[str], expected: object) -> None:
    session_id = shell.ok("new").strip()
    shell.ok("set", session_id, *args)
    (event,) = shell.json("history", session_id, "--after", "1")["events"]
    assert event["changes"][0]["value"] == expected


@pytest.mark.parametrize("field", FIELDS)
def test_fields_that_refuse_text_are_read_as_json_and_no_others(field: str) -> None:
    if holds_only_json(field):
        assert parse_value(field, "{}", as_json=False) == {}
    else:
        assert parse_value(field, "{}", as_json=False) == "{}"
        assert not FIELDS[field].shape.startswith("object")


def test_a_value_can_come_from_a_file_and_from_standard_input(shell: Shell, tmp_path) -> None:
    session_id = shell.ok("new").strip()
    (tmp_path / "strategy.md").write_text("# Plan\n", encoding="utf-8")
    shell.ok("set", session_id, "strategy", "--from", str(tmp_path / "strategy.md"))
    shell.ok("message", session_id, "assistant", "--from", "-", stdin="über\n")
    found = shell.json("show", session_id, "--messages")
    assert found["strategy"] == "# Plan\n"
    assert found["messages"][0]["content"] == "über\n"


def test_a_field_can_be_removed(shell: Shell) -> None:
    session_id = shell.ok("new", "--tag", "weekly").strip()
    shell.ok("set", session_id, "tag", "--key", "weekly", "--remove")
    shell.ok("set", session_id, "tag", "--key", "daily")
    assert shell.json("show", session_id)["tags"] == ["daily"]


def test_a_message_has_all_its_parts(shell: Shell, still: SetClock) -> None:
    session_id = shell.ok("new").strip()
    shell.ok(
        *("message", session_id, "assistant", "Done", "--tool", "sql", "--tokens", "3", "--ms", "1.5"),
        *("--metadata", '{"model": "m"}', "--id", "m1", "--actor", "web"),
    )
    assert shell.json("show", session_id, "--last", "1")["messages"] == [
        {
            "message_id": "m1",
            "version": 2,
            "role": "assistant",
            "content": "Done",
            "tools_used": ["sql"],
            "processing_time_ms": 1.5,
            "token_count": 3,
            "error": None,
            "metadata": {"model": "m"},
            "payload": None,
            "actor": "web",
            "occurred_at": "2026-03-05T09:30:00.000000Z",
            "recorded_at": "2026-03-05T09:30:00.000000Z",
        }
    ]


def test_sql_answers_as_table_json_and_csv(shell: Shell, still: SetClock) -> None:
    recorded(shell, still)
    statement = "SELECT question, version, created_at FROM sessions WHERE user_id = @user AND version > @least"
    args = ("sql", statement, "--param", "user=user123", "--param", "least:=1")
    assert shell.json(*args) == {
        "columns": ["question", "version", "created_at"],
        "rows": [{"question": QUESTION, "version": 6, "created_at": "2026-03-05T09:30:00.000000Z"}],
    }
    rows = list(csv.reader(io.StringIO(shell.ok(*args, "--format", "csv"))))
    assert rows == [["question", "version", "created_at"], [QUESTION, "6", "2026-03-05T09:30:00.000000Z"]]
    assert shell.ok("sql", "-", stdin="SELECT COUNT(*) AS n FROM sessions") == "n\n1\n1 row\n"
    assert shell.path.with_suffix(".duckdb").exists()


def test_sql_sees_what_was_recorded_a_moment_ago(shell: Shell) -> None:
    shell.ok("new", "one")
    assert shell.json("sql", "SELECT COUNT(*) AS n FROM sessions")["rows"] == [{"n": 1}]
    shell.ok("new", "two")
    assert shell.json("sql", "SELECT COUNT(*) AS n FROM sessions")["rows"] == [{"n": 2}]


def test_sql_mixes_no_other_ledgers_rows_into_its_answers(shell: Shell) -> None:
    shell.ok("new", "one")
    shell.ok("sql", "SELECT 1 AS one")
    shell.path.unlink()
    shell.ok("new", "another ledger at the same path")
    code, message = shell.fails("sql", "SELECT COUNT(*) AS n FROM sessions")
    assert code == 12
    assert "ledger.duckdb has rows of another ledger" in message
    shell.path.with_suffix(".duckdb").unlink()
    assert shell.json("sql", "SELECT COUNT(*) AS n FROM sessions")["rows"] == [{"n": 1}]


@pytest.mark.parametrize("later", [0, 1, 3])
def test_sql_goes_on_after_the_ledger_was_restored_and_keeps_what_it_lost(shell: Shell, tmp_path, later: int) -> None:
    shell.ok("new", "kept")
    shell.ok("backup", str(tmp_path / "copy.db"))
    shell.ok("new", "lost")
    shell.ok("sql", "SELECT 1 AS one")
    (tmp_path / "copy.db").replace(shell.path)
    for number in range(later):
        shell.ok("new", f"after the restore {number}")
    counts = "SELECT COUNT(*) AS n, COUNT(DISTINCT event_id) AS events FROM session_events WHERE field = 'status'"
    assert shell.json("sql", counts)["rows"] == [{"n": 2 + later, "events": 2 + later}]


def test_dates_and_numbers_in_a_table_carry_no_quotes(shell: Shell) -> None:
    shell.ok("new", "one")
    statement = "SELECT DATE '2026-03-05' AS d, NUMERIC '1.5' AS n, ['a'] AS l, JSON '\"j\"' AS j"
    assert shell.ok("sql", statement, "--format", "csv").splitlines()[1] == '2026-03-05,1.5,"[""a""]",j'


def test_wide_rows_are_shown_one_value_a_line(shell: Shell, still: SetClock) -> None:
    recorded(shell, still)
    lines = shell.ok("sql", "SELECT * FROM sessions").splitlines()
    assert "user_id                    user123" in lines


def test_init_makes_a_ledger_and_leaves_one_alone(shell: Shell) -> None:
    made = shell.json("init")
    assert list(made) == ["url", "store_id"]
    assert shell.json("init") == made


def test_the_url_may_stand_before_and_after_the_command(shell: Shell, tmp_path) -> None:
    url = f"sqlite:///{tmp_path / 'other.db'}"
    session_id = shell.ok("--url", url, "new").strip()
    assert shell.json("list", "--url", url)["sessions"][0]["session_id"] == session_id
    assert shell.json("list", "--url", f"sqlite:///{tmp_path / 'other.db'}?synchronous=NORMAL")["sessions"]


def test_a_backup_is_a_ledger(shell: Shell, tmp_path) -> None:
    session_id = shell.ok("new", "kept").strip()
    copy = tmp_path / "copy.db"
    assert shell.json("backup", str(copy)) == {"path": str(copy), "bytes": copy.stat().st_size}
    assert shell.json("show", session_id, "--url", f"sqlite:///{copy}")["question"] == "kept"


def test_the_demo_compares_the_sdk_with_sql_and_leaves_nothing(shell: Shell) -> None:
    shown = shell.ok("demo")
    assert "Orders Trend for CFC-1" in shown
    assert shown.count("✓ same") == 3
    assert max(map(len, shown.splitlines()[:-2])) <= 80
    assert not shell.path.exists(), "the environment's ledger is left alone"


def test_the_demo_in_a_pipe_has_no_line_wider_than_its_texts(shell: Shell) -> None:
    page = shell("demo", COLUMNS="").stdout.splitlines()
    headings = [line for line in page if "──" in line]
    assert [len(line) for line in headings] == [80] * 5
    assert max(map(len, page)) < 500


def test_the_demo_keeps_its_session_where_it_is_told_to(shell: Shell) -> None:
    found = shell.json("demo", "--url", shell.url)
    assert [check["same"] for check in found["checks"]] == [True, True, True]
    assert shell.json("show", found["session"]["session_id"])["status"] == "completed"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_json(name: str) -> None:
    command = ledger.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    assert command.help
    assert all("ledger" in example and name in example for example in command.examples)  # type: ignore[attr-defined]
    assert command.examples  # type: ignore[attr-defined]
    assert "--json" in {option for parameter in command.params for option in parameter.opts}


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\nsys.argv = ['ledger', '--help']\nfrom ledger.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Usage: ledger" in done.stdout
    loaded = set(done.stdout.split())
    assert not loaded & {"rich", "duckdb", "sqlglot", "pandas", "pyarrow", "pydantic", "google.cloud"}


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(shell: Shell) -> None:
    for number in range(40):
        shell.ok("new", f"{number} " + "long " * 2000)
    program = "from ledger.cli import main; main()"
    command = [sys.executable, "-c", program, "--url", shell.url, "export"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert json.loads(running.stdout.readline())["event_type"] == "session.created"
        running.stdout.close()
        assert running.stderr.read() == b""


def test_a_long_table_says_how_many_rows_it_leaves_out(shell: Shell) -> None:
    shell.ok("new", "one")
    statement = "SELECT n FROM UNNEST(GENERATE_ARRAY(1, 1500)) AS n"
    shown = shell.ok("sql", statement)
    assert "1,500 rows, the first 1,000 shown" in shown
    assert len(shell.ok("sql", statement, "--format", "csv").splitlines()) == 1501
