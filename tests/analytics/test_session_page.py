"""A session's page: all of the session in its order, nothing but its own style, and no word of an agent as markup."""

from __future__ import annotations

import base64
import hashlib
import re
import stat
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ledger import Change, InvalidInput, SessionLedger, SessionNotFound
from ledger.analytics.session_page import session_page
from ledger.cli.exits import EXIT_CODES
from ledger.testing import CountedIds, SetClock
from support.shell import Shell

#: Text that is markup, an attribute and a style, with characters that a terminal or a browser would act on.
EVIL = "\"'><script>alert(1)</script><img src=//e.example onerror=x style=a>&amp;\u202e\x1b[31m"
VOID = {"meta"}


class Parsed(HTMLParser):
    """The tags, attributes and text of a page, which must be nested properly."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: SetClock) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db", relay="off", clock=clock, ids=CountedIds()) as opened:
        yield opened


def recorded(ledger: SessionLedger, clock: SetClock, text: str = "plain") -> str:
    """A session with every field, a call that was tried again, one that failed, and errors of all kinds."""
    key = "".join(filter(str.isprintable, text))  # ids and keys have no control characters
    fields: dict[str, Any] = {"attribute": {key: text}, "context": {key: text}, "x_own": text, "title": text}
    sid = ledger.create_session(key, text, fields=fields | {"session_type": text, "result": {key: {key: text}}})
    ledger.update_session(sid, {"strategy": text, "response_plan": {key: text}, "tag": {key: True}})
    ledger.add_message(sid, "user", text, actor=key, metadata={key: text}, tools_used=[text], payload=text)
    clock.move(1)
    call = {"name": text, "description": text, "arguments": {"sql": f"SELECT 1\n{text}"}, "tables": [text]}
    ledger.update_session(sid, {"tool_calls": [{"id": "a", **call}, {"id": "b", **call}]})
    for status in ("running", "failed", "running", "completed"):
        clock.move(1)
        ledger.update_tool_call_status(sid, "a", status, {"rows": [text]})
    ledger.update_tool_call_status(sid, "b", "failed", {"type": text, "message": text})
    ledger.record_model_call(sid, text, provider=text, operation=text, finish_reason=text, input_tokens=7, cost_usd=0.5)
    ledger.record_model_call(sid, text, error={"type": text, "message": text})
    ledger.add_message(sid, "assistant", [{"type": "text", "text": text}], error=text, token_count=3)
    ledger.add_message(sid, "tool", {key: text})
    ledger.add_score(sid, key, 1, comment=text)
    ledger.add_query(sid, key)
    ledger.grant_access(sid, "bob", "read")
    ledger.fork_session(sid)
    ledger.fail_session(sid, {"type": text, "message": text})
    return sid


def test_what_agents_wrote_is_text_and_nothing_else(ledger, clock):
    plain = Parsed(session_page(ledger, recorded(ledger, clock), characters=100_000))
    page = session_page(ledger, recorded(ledger, clock, EVIL), characters=100_000)
    evil = Parsed(page)
    assert evil.tags == plain.tags
    assert Counter(name for _, name, _ in evil.attributes) == Counter(name for _, name, _ in plain.attributes)
    assert evil.words.count("<script>alert(1)</script>") > 30
    assert [character for character in "\u202e\x1b" if character in page] == []
    assert "\\u202e\\u001b[31m" in page


def test_nothing_is_loaded_or_run_and_only_its_own_style_is_allowed(ledger, clock):
    page = session_page(ledger, recorded(ledger, clock))
    parsed = Parsed(page)
    assert not {"script", "img", "link", "iframe", "form", "base", "object"} & parsed.tags.keys()
    assert [value for name in ("src", "srcset", "action", "style", "data") for value in parsed.values(name)] == []
    assert [name for _, name, _ in parsed.attributes if name.startswith("on")] == []
    links, ids = parsed.values("href"), parsed.values("id")
    assert links
    assert [link for link in links if link.removeprefix("#") not in ids] == []
    assert len(ids) == len(set(ids))
    style = re.search("<style>(.*)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-" + digest + "'"
    assert policy in parsed.values("content")
    assert not re.search(r"url\(|@import|https?:", style[1])


def test_the_conversation_is_in_order_with_calls_between_messages(ledger, clock):
    words = Parsed(session_page(ledger, recorded(ledger, clock))).words
    conversation = words[words.index("Conversation user") :]
    places = [conversation.index(word) for word in ("user plain", "retry", "SELECT 1", "7 → - tokens", "assistant")]
    assert places == sorted(places)
    assert "1 s, 1 retry" in conversation


def test_the_head_says_whose_session_it_is_how_it_ended_and_what_it_used(ledger, clock):
    sid = recorded(ledger, clock)
    words = Parsed(session_page(ledger, sid)).words
    for said in (
        f"Session {sid} failed",
        "Failed: plain plain",
        "Messages 3 1 by users",
        "Tool calls 2 1 failed",
        "Model calls 2 1 failed",
        "Input tokens 7",
        "Output tokens - of model calls",
        "Cost $0.50 1 without price",
        "Owner plain",
        "Shared with bob (read)",
        "plain = plain",
    ):
        assert said in words
    (fork,) = ledger.require_session(sid).children
    assert f"Copied to {fork} (fork)" in words
    forked = Parsed(session_page(ledger, fork)).words
    assert f"Made from {sid} at version " in forked
    assert "Model calls 2 1 failed, 2 copied Input tokens - without copies" in forked


def test_what_a_rewind_brings_back_in_a_fork_is_still_a_copy(ledger):
    sid = ledger.create_session("ada", "How many?")
    ledger.record_model_call(sid, "small", call_id="c", input_tokens=7)
    fork = ledger.fork_session(sid)
    copied = ledger.require_session(fork).version
    ledger.append(fork, "x.corrected", [Change("model_call", "c", {"model": "small", "input_tokens": 8})])
    ledger.rewind(fork, copied)
    assert "Model calls 1 0 failed, 1 copied Input tokens - without copies" in Parsed(session_page(ledger, fork)).words


def test_each_version_says_who_changed_what_and_what_it_was_before(ledger, clock):
    sid = ledger.create_session("ada", "How many?")
    ledger.update_constraints(sid, {"kpi": "orders", "weeks": 1})
    ledger.update_constraints(sid, {"kpi": "orders", "weeks": 2, "region": "north"}, actor="planner")
    ledger.update_session(sid, {"title": "A"})
    ledger.update_session(sid, {"title": None})
    words = Parsed(session_page(ledger, sid)).words
    history = words[words.index("Versions", words.index("Nothing was said")) :]
    third = history[history.index(" 3 ") : history.index(" 4 ")]
    assert "planner constraints.updated" in third
    assert third.endswith("Field Before After constraints.region - north constraints.weeks 1 2")
    assert "title A -" in history
    assert "title removed" in history


def test_an_erased_value_is_called_erased(ledger, clock):
    sid = recorded(ledger, clock, "secret-word")

    def work(connection: Any) -> None:
        for table in ("session_events", "session_state"):
            connection.execute(f"UPDATE {table} SET value = NULL WHERE field != 'status'")
        connection.execute("UPDATE session_events SET value_salt = NULL WHERE field != 'status'")

    ledger.store._local._run(work)
    parsed = Parsed(session_page(ledger, sid))
    assert "erased" in parsed.words
    assert "SELECT 1" not in parsed.words
    assert "Cost -" in parsed.words


def test_long_messages_for_the_model_are_folded_and_lists_of_tools_are_names(ledger):
    sid = ledger.create_session("ada", "q")
    ledger.add_message(sid, "system", "Policy. " * 100, actor="system")
    ledger.add_message(sid, "tool", "short", tools_used=["sql", "chart"])
    page = session_page(ledger, sid)
    folded = page[page.index('<details class="panel" id="s0">') : page.index("</details>")]
    assert folded.count("Policy. ") > 100
    assert "<span>system</span>" not in folded
    assert '<article class="panel " id="s1">' in page
    assert "tools: sql, chart" in page


def test_a_session_in_which_nothing_happened_has_a_page(ledger):
    words = Parsed(session_page(ledger, ledger.create_session("ada"))).words
    assert "Nothing was said or called." in words
    assert "Cost - of model calls Time - first to last" in words
    assert "Errors" not in words


def test_a_long_session_is_cut_and_says_what_is_left_out(ledger, clock):
    sid = ledger.create_session("ada", "q")
    for number in range(60):
        clock.move(1)
        ledger.add_message(sid, "user", f"<{number}>", message_id=f"m{number}")
        ledger.record_model_call(sid, "m", error="late")
    page = session_page(ledger, sid, steps=20, versions=10)
    words = Parsed(page).words
    assert f"100 of 120 messages and calls are left out here. All messages: ledger show {sid} --messages" in words
    assert f"111 of 121 versions are left out here. All of them: ledger history {sid}" in words
    assert "10 more errors are left out here." in words
    assert "40 more calls, left out here" in words
    assert Parsed(page).tags["article"] == 10
    assert [number in words for number in ("<0>", "<1>", "<2>", "<51>", "<52>", "<59>")] == [
        *(True, True, False),
        *(False, True, True),
    ]
    assert set(re.findall(r'href="#(s\d+)"', page)) <= set(re.findall(r'id="(s\d+)"', page))


def test_a_long_value_is_cut_and_says_how_much_is_left_out(ledger):
    sid = ledger.create_session("ada", "q" * 1000)
    ledger.add_message(sid, "user", "x" * 9000)
    ledger.update_session(sid, {"context": {str(number): "y" * 100 for number in range(900)}})
    page = session_page(ledger, sid, characters=500)
    words = Parsed(page).words
    assert "q… 400 more characters" in words.replace(" …", "…")
    assert "x… 8,500 more characters" in words.replace(" …", "…")
    assert "880 more changes of this version are left out here." in words
    assert len(page) < 40_000


def test_ids_and_times_that_clocks_set_back_make_no_trouble(ledger, clock):
    sid = ledger.create_session("ada", "q", fields={"tool_calls": [{"id": "a", "name": "sql"}]})
    clock.move(-3600)
    ledger.update_tool_call_status(sid, "a", "running")
    clock.move(-3600)
    ledger.update_tool_call_status(sid, "a", "completed")
    ledger.record_model_call(sid, "m", duration_ms=1e300)
    ledger.record_model_call(sid, "m", duration_ms=0)
    assert "completed" in Parsed(session_page(ledger, sid)).words


def test_a_user_s_view_shows_what_the_user_may_read_and_limits_are_checked(ledger):
    sid = ledger.create_session("ada", "q")
    assert session_page(ledger.for_user("ada"), sid) == session_page(ledger, sid)
    for opened in (ledger.for_user("bob"), ledger):
        with pytest.raises(SessionNotFound):
            session_page(opened, sid if opened is not ledger else "none")
    for limit in ({"steps": 0}, {"versions": -1}, {"characters": "many"}):
        with pytest.raises(InvalidInput, match=next(iter(limit))):
            session_page(ledger, sid, **limit)


def test_the_command_writes_the_page_for_its_owner_only(shell: Shell, tmp_path: Path):
    sid = shell.ok("new", "How many orders?").strip()
    out = tmp_path / "session.html"
    done = shell("report", "--session", sid[-12:], "--out", str(out))
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"session {sid}" in done.stderr
    assert "How many orders?" in Parsed(out.read_text(encoding="utf-8")).words
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    told = shell.json("report", "--session", sid, "--out", str(out))
    assert told == {"file": str(out), "session_id": sid, "bytes": out.stat().st_size}


def test_the_command_refuses_the_ledger_itself_and_writes_nothing_if_there_is_no_session(shell: Shell, tmp_path: Path):
    sid = shell.ok("new", "q").strip()
    assert "ledger" in shell.fails("report", "--session", sid, "--out", str(shell.path))[1]
    assert shell.ok("show", sid)
    code, _ = shell.fails("report", "--session", "0" * 12, "--out", str(tmp_path / "none.html"))
    assert code == EXIT_CODES[SessionNotFound]
    assert not (tmp_path / "none.html").exists()
