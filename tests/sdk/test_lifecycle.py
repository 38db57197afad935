"""How sessions end and come back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ledger import (
    Change,
    ConfigurationError,
    InvalidInput,
    SessionEnded,
    SessionLedger,
    SessionManagerV2,
    SessionNotFound,
)
from ledger.model.lifetime import status_at
from ledger.testing import START, CountedIds

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def ledger(tmp_path, clock):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with SessionLedger(url, clock=clock, ids=CountedIds(1), default_ttl_hours=24) as opened:
        yield opened


@pytest.fixture
def bounded(tmp_path, clock):
    url = f"sqlite:///{tmp_path / 'bounded.db'}"
    with SessionLedger(url, clock=clock, default_ttl_hours=24, max_ttl_hours=168) as opened:
        yield opened


def types(ledger, session_id):
    return [event.event_type for event in ledger.history(session_id)]


def test_a_session_lives_for_the_default_ttl_unless_somebody_says_otherwise(ledger):
    assert ledger.get_session(ledger.create_session("ada")).expires_at == START + DAY
    assert ledger.get_session(ledger.create_session("ada", ttl=HOUR)).expires_at == START + HOUR
    assert ledger.get_session(ledger.create_session("ada", ttl=None)).expires_at is None
    given = ledger.create_session("ada", fields={"expires_at": START + 2 * HOUR})
    assert ledger.get_session(given).expires_at == START + 2 * HOUR


@pytest.mark.parametrize("kind", [SessionLedger, SessionManagerV2])
def test_sessions_have_no_end_unless_somebody_says_so(tmp_path, clock, kind):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with kind(url, clock=clock) as opened:
        assert opened.get_session(opened.create_session("ada", "q")).expires_at is None
        assert opened.get_session(opened.create_session("ada", "q", ttl=1000 * DAY)).expires_at == START + 1000 * DAY
    with kind.open(url, clock=clock, default_ttl_hours=2) as opened:
        assert opened.get_session(opened.create_session("ada", "q")).expires_at == START + 2 * HOUR


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (None, None)),
        ({"LEDGER_SESSION_DEFAULT_TTL_HOURS": "none", "LEDGER_SESSION_MAX_TTL_HOURS": "None"}, (None, None)),
        ({"LEDGER_SESSION_DEFAULT_TTL_HOURS": "0.5"}, (HOUR / 2, None)),
        ({"LEDGER_SESSION_MAX_TTL_HOURS": "12"}, (12 * HOUR, 12 * HOUR)),
        ({"LEDGER_SESSION_DEFAULT_TTL_HOURS": "1", "LEDGER_SESSION_MAX_TTL_HOURS": "12"}, (HOUR, 12 * HOUR)),
    ],
)
def test_both_lifetimes_are_settings(tmp_path, monkeypatch, clock, settings, expected):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    default, longest = expected
    with SessionLedger(f"sqlite:///{tmp_path / 'ledger.db'}", clock=clock) as ledger:
        ends = ledger.get_session(ledger.create_session("ada")).expires_at
        assert ends == (None if default is None else START + default)
        ledger.create_session("ada", ttl=longest)
        for beyond in () if longest is None else (longest + HOUR, None):
            with pytest.raises(InvalidInput, match="max_ttl_hours"):
                ledger.create_session("ada", ttl=beyond)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEDGER_SESSION_DEFAULT_TTL_HOURS", "soon"),
        ("LEDGER_SESSION_DEFAULT_TTL_HOURS", "-1"),
        ("LEDGER_SESSION_DEFAULT_TTL_HOURS", "169"),
        ("LEDGER_SESSION_DEFAULT_TTL_HOURS", "none"),
        ("LEDGER_SESSION_MAX_TTL_HOURS", "nan"),
        ("LEDGER_SESSION_MAX_TTL_HOURS", "0"),
    ],
)
def test_a_setting_that_is_no_lifetime_is_named(tmp_path, monkeypatch, name, value):
    monkeypatch.setenv("LEDGER_SESSION_MAX_TTL_HOURS", "168")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        SessionLedger(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert not (tmp_path / "ledger.db").exists()


@pytest.mark.parametrize("ttl", [timedelta(0), -HOUR, timedelta(hours=169), None, 24, "24"])
def test_a_lifetime_that_cannot_be_is_refused_and_nothing_is_written(bounded, ttl):
    ledger = bounded
    with pytest.raises(InvalidInput, match="ttl"):
        ledger.create_session("ada", session_id="mine", ttl=ttl)
    assert ledger.get_session("mine") is None
    kept = ledger.create_session("ada")
    with pytest.raises(InvalidInput, match="ttl"):
        ledger.extend_session(kept, ttl)
    assert ledger.get_session(kept).version == 1


@pytest.mark.parametrize("late", [START + timedelta(hours=169), "2999-01-01T00:00:00Z", None])
def test_no_way_of_setting_the_end_passes_the_bound(bounded, late):
    ledger = bounded
    session_id = ledger.create_session("ada")
    for attempt in (
        lambda: ledger.update_session(session_id, {"expires_at": late}),
        lambda: ledger.append(session_id, "end.moved", [Change("expires_at", "", late)]),
        lambda: ledger.append(session_id, "end.moved", (Change("expires_at", "", it) for it in [late])),
        lambda: ledger.create_session("ada", session_id="mine", fields={"expires_at": late}),
        lambda: ledger.create_from_template(session_id, "ada", fields={"expires_at": late}),
    ):
        with pytest.raises(InvalidInput, match="max_ttl_hours"):
            attempt()
    assert ledger.get_session("mine") is None
    assert (ledger.get_session(session_id).version, len(ledger.list_sessions())) == (1, 1)
    ledger.update_session(session_id, {"expires_at": START + timedelta(hours=168)})
    assert ledger.get_session(session_id).expires_at == START + timedelta(hours=168)


def test_whoever_looks_after_the_end_sees_it_before_the_sweep_has_recorded_it(ledger, clock):
    session_id = ledger.create_session("ada", ttl=HOUR)
    clock.now += HOUR
    assert ledger.get_session(session_id).status == "expired"
    assert ledger.get_session(session_id).recorded_status == "active"
    assert ledger.get_session(session_id, at=START).status == "active"
    assert [it.session_id for it in ledger.list_sessions(status="expired")] == [session_id]
    assert not ledger.list_sessions(status="active")


SAID = {
    "message": lambda ledger, sid: ledger.add_message(sid, "user", "hello"),
    "update": lambda ledger, sid: ledger.update_session(sid, {"title": "T"}),
    "summary": lambda ledger, sid: ledger.update_summary(sid, "S"),
    "constraints": lambda ledger, sid: ledger.update_constraints(sid, {"tool_calls": ["t"]}),
    "tool call": lambda ledger, sid: ledger.update_tool_call_status(sid, "t", "completed"),
    "query": lambda ledger, sid: ledger.add_query(sid, "price"),
    "context": lambda ledger, sid: ledger.update_context(sid, {"a": 1}),
    "event": lambda ledger, sid: ledger.append(sid, "plan.approved", [Change("x_plan", "", 1)]),
    "extension": lambda ledger, sid: ledger.extend_session(sid, HOUR),
    "failure": lambda ledger, sid: ledger.fail_session(sid, "late"),
}


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("end", ["over", "expired", "deleted"])
def test_a_session_that_has_ended_takes_no_more_of_its_conversation(ledger, clock, said, end):
    session_id = ledger.create_session("ada", ttl=HOUR)
    if end == "over":
        clock.now += HOUR
    elif end == "expired":
        ledger.expire_session(session_id)
    else:
        ledger.delete_session(session_id)
    before = types(ledger, session_id)
    with pytest.raises(SessionEnded, match="nothing was written") as caught:
        SAID[said](ledger, session_id)
    assert caught.value.status == ("deleted" if end == "deleted" else "expired")
    assert types(ledger, session_id) == before


def test_an_end_that_another_process_records_holds_at_once_and_so_does_the_way_back(ledger, clock):
    session_id = ledger.create_session("ada")
    ledger.add_message(session_id, "user", "one")
    with SessionLedger(ledger.url, clock=clock, ids=CountedIds(100)) as other:
        other.expire_session(session_id)
        with pytest.raises(SessionEnded):
            ledger.add_message(session_id, "user", "two")
        other.restore_session(session_id, HOUR)
        ledger.add_message(session_id, "user", "three")
    clock.now += HOUR
    with pytest.raises(SessionEnded):
        ledger.add_message(session_id, "user", "four")


def test_what_was_recorded_before_the_end_can_be_sent_again_after_it(ledger, clock):
    session_id = ledger.create_session("ada", ttl=HOUR)
    first = ledger.add_message(session_id, "user", "hello", event_id="m1")
    clock.now += DAY
    again = ledger.add_message(session_id, "user", "hello", event_id="m1")
    assert (again.version, again.replayed) == (first.version, True)


def test_a_session_is_judged_and_tagged_after_its_end_as_well(ledger):
    session_id = ledger.create_session("ada")
    ledger.expire_session(session_id)
    ledger.add_score(session_id, "helpful", 0.5, source="ada", comment="hm")
    ledger.add_tags(session_id, "seen", "seen")
    session = ledger.get_session(session_id)
    assert [(it["name"], it["value"]) for it in session.scores.values()] == [("helpful", 0.5)]
    assert session.tags == ("seen",)
    ledger.remove_tags(session_id, "seen", "never")
    assert ledger.get_session(session_id).tags == ()


def test_a_crashed_session_is_told_from_one_that_was_left_alone(ledger, clock):
    crashed, left, done = (ledger.create_session("ada") for _ in range(3))
    ledger.fail_session(crashed, ValueError("no rows"))
    ledger.complete_session(done)
    clock.now += 2 * DAY
    assert ledger.expire_old_sessions() == 1
    states = {sid: ledger.get_session(sid) for sid in (crashed, left, done)}
    assert [states[sid].status for sid in (crashed, left, done)] == ["failed", "expired", "completed"]
    assert states[crashed].error == {"type": "ValueError", "message": "no rows"}
    assert states[left].error is None
    assert types(ledger, crashed)[-1] == "session.failed"


def test_extending_moves_the_end_and_never_forward(ledger, clock):
    session_id = ledger.create_session("ada", ttl=2 * HOUR)
    with pytest.raises(InvalidInput, match="would shorten it"):
        ledger.extend_session(session_id, HOUR)
    clock.now += HOUR
    ledger.extend_session(session_id, 3 * HOUR)
    assert ledger.get_session(session_id).expires_at == clock.now + 3 * HOUR
    ledger.extend_session(session_id)
    assert ledger.get_session(session_id).expires_at == clock.now + DAY


@pytest.mark.parametrize("change", ["extend", "expire", "restore", "create"])
def test_a_change_of_the_end_that_is_sent_again_later_is_the_same(ledger, clock, change):
    session_id = ledger.create_session("ada", event_id="begun")
    calls = {
        "extend": lambda: ledger.extend_session(session_id, 30 * HOUR, event_id="once"),
        "expire": lambda: ledger.expire_session(session_id, event_id="once"),
        "restore": lambda: ledger.restore_session(session_id, event_id="once"),
        "create": lambda: ledger.create_session("ada", event_id="begun"),
    }
    if change == "restore":
        ledger.expire_session(session_id)
    calls[change]()
    before = ledger.get_session(session_id)
    clock.now += 10 * HOUR
    calls[change]()
    assert ledger.get_session(session_id).version == before.version
    assert ledger.get_session(session_id).expires_at == before.expires_at


def test_expiring_twice_and_deleting_twice_is_done_once(ledger):
    session_id = ledger.create_session("ada")
    assert ledger.expire_session(session_id) is not None
    assert ledger.expire_session(session_id) is None
    assert ledger.delete_session(session_id) is not None
    assert ledger.delete_session(session_id) is None
    with pytest.raises(SessionEnded):
        ledger.expire_session(session_id)
    assert types(ledger, session_id) == ["session.created", "session.expired", "session.deleted"]


def test_a_deletion_that_is_sent_again_is_the_first_one(ledger):
    session_id = ledger.create_session("ada")
    first = ledger.delete_session(session_id, event_id="gone")
    again = ledger.delete_session(session_id, event_id="gone")
    assert (again.version, again.replayed) == (first.version, True)


@pytest.mark.parametrize("call", ["expire_session", "delete_session", "restore_session", "extend_session"])
def test_the_end_of_an_unknown_session_is_not_found(ledger, call):
    with pytest.raises(SessionNotFound):
        getattr(ledger, call)("nobody")


def test_a_deleted_session_is_in_no_list_but_that_of_the_deleted(ledger):
    kept, gone = ledger.create_session("ada"), ledger.create_session("ada")
    ledger.delete_session(gone)
    assert [it.session_id for it in ledger.list_sessions()] == [kept]
    assert [it.session_id for it in ledger.list_sessions(status="deleted")] == [gone]
    assert ledger.get_session(gone).status == "deleted"


def test_what_is_restored_goes_on_with_the_status_it_had(ledger, clock):
    session_id = ledger.create_session("ada", ttl=HOUR, fields={"status": "waiting"})
    clock.now += 2 * HOUR
    ledger.expire_old_sessions()
    ledger.delete_session(session_id)
    ledger.restore_session(session_id)
    session = ledger.get_session(session_id)
    assert (session.status, session.expires_at) == ("waiting", clock.now + DAY)
    ledger.add_message(session_id, "user", "still here")
    with pytest.raises(InvalidInput, match="neither expired nor deleted"):
        ledger.restore_session(session_id)


def test_what_is_over_and_not_swept_yet_can_be_restored(ledger, clock):
    session_id = ledger.create_session("ada", ttl=HOUR)
    clock.now += 2 * HOUR
    ledger.restore_session(session_id, None)
    assert ledger.get_session(session_id).status == "active"
    assert ledger.get_session(session_id).expires_at is None


def test_the_sweep_ends_what_is_over_and_what_nothing_has_happened_to(ledger, clock):
    over = ledger.create_session("ada", ttl=HOUR)
    idle = ledger.create_session("ada", ttl=None)
    clock.now += 12 * HOUR
    busy = ledger.create_session("ada", ttl=None)
    done = ledger.create_session("ada", ttl=HOUR)
    ledger.complete_session(done)
    clock.now += 12 * HOUR
    assert ledger.expire_old_sessions(max_age=23 * HOUR) == 2
    assert ledger.expire_old_sessions(max_age=23 * HOUR) == 0
    statuses = {sid: ledger.get_session(sid).recorded_status for sid in (over, idle, busy, done)}
    assert statuses == {over: "expired", idle: "expired", busy: "active", done: "completed"}
    assert ledger.get_session(over).expires_at == START + HOUR
    assert ledger.get_session(idle).expires_at == clock.now


def test_the_sweep_goes_through_more_sessions_than_a_page_holds(ledger, clock):
    for _ in range(450):
        ledger.create_session("ada", ttl=HOUR)
    clock.now += HOUR
    assert ledger.expire_old_sessions() == 450
    assert not ledger.list_sessions(status="active")


@pytest.mark.parametrize("max_age", [-HOUR, 24, "24"])
def test_an_age_that_is_none_is_refused(ledger, max_age):
    with pytest.raises(InvalidInput, match="max_age"):
        ledger.expire_old_sessions(max_age)


def test_queries_run_up_statistics(ledger):
    session_id = ledger.create_session("ada")
    ledger.add_query(session_id, "price", parameters={"symbol": "AAPL"}, cache_hit=True, execution_time_ms=10)
    ledger.add_query(session_id, "price", execution_time_ms=20)
    ledger.add_query(session_id, "news", result_summary="none", query_id="q3")
    statistics = ledger.get_session(session_id).query_statistics
    assert (statistics.total_queries, statistics.cache_hits, statistics.cache_hit_rate) == (3, 1, pytest.approx(1 / 3))
    assert statistics.by_type == {"price": 2, "news": 1}
    assert (statistics.total_execution_time_ms, statistics.average_execution_time_ms) == (30, 15)
    assert ledger.get_session(session_id).queries["q3"]["result_summary"] == "none"
    assert ledger.get_session(ledger.create_session("ada")).query_statistics.cache_hit_rate == 0


def test_context_results_and_attributes_merge_by_name(ledger):
    session_id = ledger.create_session("ada")
    for write, name in (
        (ledger.update_context, "context"),
        (ledger.set_results, "results"),
        (ledger.set_attributes, "attributes"),
    ):
        write(session_id, {"a": {"x": 1}, "b": 2, "c": 3})
        write(session_id, {"a": {"y": 1}, "c": None}, remove=["b"])
        assert getattr(ledger.get_session(session_id), name) == {"a": {"y": 1}}
        for unfit in ([1], "text", None):
            with pytest.raises(InvalidInput, match="object"):
                write(session_id, unfit)
        with pytest.raises(InvalidInput, match="list of names"):
            write(session_id, {}, remove="abc")


@pytest.mark.parametrize("word", [None, "active", "completed", "failed", "expired", "archived", "deleted"])
def test_only_an_open_status_gives_way_to_the_end(word):
    now = datetime(2026, 3, 4, tzinfo=UTC)
    gives_way = word in (None, "active")
    assert status_at(word, now, now) == ("expired" if gives_way else word)
    assert status_at(word, now + HOUR, now) == word
    assert status_at(word, None, now) == word


def test_the_open_session_of_a_key_is_found_when_those_before_it_are_deleted_for_good(ledger, clock, tmp_path):
    first = ledger.get_or_create_session("ada", "chat")
    ledger.delete_session(first.session_id)
    second = ledger.get_or_create_session("ada", "chat", ttl=None)
    clock.now += 31 * DAY
    ledger.add_message(second.session_id, "user", "still here")
    fork = ledger.fork_session(second.session_id)
    assert ledger.delete_old_sessions(30 * DAY) == 1
    with SessionLedger(f"sqlite:///{tmp_path / 'ledger.db'}", clock=clock) as other:
        assert other.get_or_create_session("ada", "chat").session_id == second.session_id != fork


def test_an_end_that_comes_while_a_session_is_deleted_does_not_bring_it_back(ledger, monkeypatch):
    session_id = ledger.create_session("ada")
    derive = ledger._derive

    def deleted_first(*args, **named):
        monkeypatch.setattr(ledger, "_derive", derive)
        ledger.delete_session(session_id)
        return derive(*args, **named)

    monkeypatch.setattr(ledger, "_derive", deleted_first)
    with pytest.raises(SessionEnded, match="deleted"):
        ledger.expire_session(session_id)
    assert ledger.get_session(session_id).recorded_status == "deleted"


def test_a_session_without_an_end_is_given_none_by_extending_it(ledger):
    session_id = ledger.create_session("ada", ttl=None)
    with pytest.raises(InvalidInput, match="never expires"):
        ledger.extend_session(session_id)
    ledger.extend_session(session_id, None)
    assert ledger.get_session(session_id).expires_at is None


def test_of_two_who_extend_a_session_at_once_neither_comes_too_late(ledger, clock, monkeypatch):
    session_id = ledger.create_session("ada")
    derive = ledger._derive

    def another_first(*args, **named):
        monkeypatch.setattr(ledger, "_derive", derive)
        clock.now += HOUR
        ledger.extend_session(session_id)
        return derive(*args, **named)

    monkeypatch.setattr(ledger, "_derive", another_first)
    ledger.extend_session(session_id)
    assert ledger.get_session(session_id).expires_at == START + HOUR + DAY


def test_what_is_sent_again_is_not_measured_by_a_clock_that_is_behind(tmp_path, clock):
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}", clock=clock, max_ttl_hours=24) as ledger:
        session_id = ledger.create_session("ada", "q", event_id="k")
        end = {"expires_at": START + DAY}
        ledger.update_session(session_id, end, event_id="end")
        clock.now -= HOUR
        assert ledger.create_session("ada", "q", event_id="k") == session_id
        assert ledger.update_session(session_id, end, event_id="end").replayed
        with pytest.raises(InvalidInput, match="max_ttl_hours"):
            ledger.update_session(session_id, end, event_id="another")


def test_spans_beyond_all_times_are_refused_or_reach_nothing(tmp_path, clock):
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}", clock=clock, max_ttl_hours=None) as ledger:
        session_id = ledger.create_session("ada")
        with pytest.raises(InvalidInput, match="ttl"):
            ledger.create_session("ada", ttl=timedelta.max)
        with pytest.raises(InvalidInput, match="ttl"):
            ledger.extend_session(session_id, timedelta.max)
        assert ledger.expire_old_sessions(timedelta.max) == 0


def test_a_session_fails_with_an_error_that_cannot_say_what_it_is(ledger):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    session_id = ledger.create_session("ada")
    ledger.fail_session(session_id, Mute())
    assert ledger.get_session(session_id).error["type"] == "Mute"


def test_a_score_has_its_name_its_value_and_who_gave_it_and_why(ledger, sid):
    ledger.add_score(sid, "helpful", 0.9, source="ann", comment="to the point", score_id="one")
    ledger.add_score(sid, "tone", "kind", event_id="two")
    ledger.add_score(sid, "helpful", 0.5, score_id="one")
    found = ledger.get_session(sid).scores
    assert {key: value for key, value in found.items() if key == "one"} == {"one": {"name": "helpful", "value": 0.5}}
    assert {"name": "tone", "value": "kind"} in found.values()
    first = ledger.get_session(sid, version=ledger.get_session(sid).version - 2).scores["one"]
    assert first == {"name": "helpful", "value": 0.9, "source": "ann", "comment": "to the point"}


def test_an_expiry_that_is_sent_again_is_the_same_whatever_came_after_it(ledger, sid):
    first = ledger.expire_session(sid, event_id="once")
    assert ledger.expire_session(sid, event_id="once") == replace(first, replayed=True)
    assert ledger.expire_session(sid) is None
    ledger.restore_session(sid)
    assert ledger.expire_session(sid, event_id="once") == replace(first, replayed=True)
    assert ledger.get_session(sid).status == "completed"
