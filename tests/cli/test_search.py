"""Searching from the command line."""

from __future__ import annotations

from ledger.cli.exits import EXIT_CODES
from ledger.errors import InvalidInput
from support.shell import Shell


def test_a_search_shows_where_the_words_stand(shell: Shell) -> None:
    first = shell.ok("new", "How many orders?", "--user", "ada").strip()
    second = shell.ok("new", "Returns", "--user", "bob").strip()
    shell.ok("message", second, "assistant", "[b]Orders[/b] \x1b[31mfell", "--id", "m1")
    found = shell.json("search", "ORDERS")
    assert found["next"] is None
    assert [(it["session_id"], it["field"], it["key"], it["version"]) for it in found["matches"]] == [
        (second, "message", "m1", 2),
        (first, "question", "", 1),
    ]
    assert list(found["matches"][0]) == [
        *("session_id", "user_id", "field", "key", "version", "created_at", "snippet", "role"),
    ]
    shown = shell.ok("search", "orders")
    assert "[b]Orders[/b]" in shown
    assert "\x1b" not in shown
    assert first in shown
    assert [it["session_id"] for it in shell.json("search", "orders", "--user", "ada")["matches"]] == [first]
    assert shell.json("search", "orders", "--session", first, "--since", "2030-01-01")["matches"] == []
    assert shell.ok("search", "nothing") == "No matches.\n"


def test_a_search_goes_on_where_it_ended(shell: Shell) -> None:
    ids = [shell.ok("new", "orders").strip() for _ in range(3)]
    page = shell.json("search", "orders", "--limit", "2")
    assert f"More: --after {page['next']}" in shell.ok("search", "orders", "--limit", "2")
    rest = shell.json("search", "orders", "--after", page["next"])
    assert [it["session_id"] for it in [*page["matches"], *rest["matches"]]] == ids[::-1]


def test_what_cannot_be_searched_for_is_one_line_and_a_code(shell: Shell) -> None:
    shell.ok("new", "orders")
    for args in (("?!",), ("x" * 2000,), ("orders", "--after", "x")):
        assert shell.fails("search", *args)[0] == EXIT_CODES[InvalidInput]
