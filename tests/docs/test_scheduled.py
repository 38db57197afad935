"""The commands and the cron lines of docs/scheduled.md run, and its table names the schedules that there are."""

from __future__ import annotations

import re
from pathlib import Path

from ledger.warehouse.scheduled import SCHEDULED
from support.consoles import blocks_of, check_commands

PAGE = Path(__file__).parents[2] / "docs" / "scheduled.md"


def test_the_commands_and_the_cron_lines_run(tmp_path: Path) -> None:
    blocks = blocks_of(PAGE)
    assert [kind for kind, _ in blocks] == ["console", "crontab", "text"]
    lines = [re.sub(r"^[\d* ]+ledger", "$ ledger", line) for line in blocks[1][1].splitlines()]
    assert all(line.startswith("$ ledger ") for line in lines)
    check_commands([blocks[0][1], "\n".join(lines)], tmp_path)


def test_the_table_has_the_time_and_the_days_of_each_schedule() -> None:
    rows = re.findall(r"^\| `(\w+)`[^|]*\| ([^|]+?), (\d\d:\d\d) \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    told = {name: (f"every {day}", time, rest) for name, day, time, rest in rows}
    assert told.keys() == {item.name for item in SCHEDULED}
    for item in SCHEDULED:
        day, time, rest = told[item.name]
        assert item.schedule == f"{day.replace('each ', '').replace('Sundays', 'sunday')} {time}"
        for number in filter(None, item.days.values()):
            assert re.search(rf"\b{number} days\b", rest), item.name


def test_the_plan_on_the_page_is_one_that_the_command_prints() -> None:
    (item,) = (it for it in SCHEDULED if it.days.get("retention_days", 0) is None)
    text = next(text for kind, text in blocks_of(PAGE) if kind == "text")
    assert f"schedule  {item.name}  create  {item.schedule}, retention_days 400" in text
