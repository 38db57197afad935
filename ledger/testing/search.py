"""The contract of search: a search finds the current texts that contain its terms, and no other texts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from ledger import Change, InvalidInput, Match
from ledger.model.queries import SearchQuery
from ledger.model.search import Terms
from ledger.stores.base import EventStore
from ledger.testing.harness import Harness, begin, refusals
from ledger.testing.streams import START, SetClock, event, recorded

MINUTE = timedelta(minutes=1)
#: Texts that the tests search, numbered from 0.
TEXTS = [
    "Orders dropped in Bavaria",
    'the "orders" of bavaria, dropped!',
    "orders_dropped: 1.5% (in-store)",
    "BAVARIAN orders",
    "ordersdropped",
    "naïve Σίσυφος, ΣΊΣΥΦΟΣ; Ünïcode",
    "हिन्दी 東京 жизнь",
    "a `back` tick' OR x:y NEAR(z) * ^ -not \0 end",
    "❤️ 🙂",
    "Cr\u00e8me br\u00fbl\u00e9e, \u1e96 \ud55c\uad6d\uc5b4",
    "Cre\u0300me bru\u0302le\u0301e, H\u0331 \u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165",
    "full\uff21\uff22 widths\u2122",
]
#: Pairs of a search text and the numbers of the texts that it must find.
FINDS: list[tuple[str, Iterable[int]]] = [
    ("orders", [0, 1, 2, 3]),
    ("ORDERS bavaria", [0, 1]),
    ("bavaria, (orders)", [0, 1]),
    ('"orders dropped"', [0, 2]),
    ('"orders dropped" bavaria', [0]),
    ('"dropped orders"', []),
    ('bavaria"', [0, 1]),
    ("1.5", [2]),
    ("naive", []),
    ("NAÏVE ünïcode", [5]),
    ("σίσυφος", [5]),
    ('"Σίσυφοσ σίσυφος"', [5]),
    ("हिन्दी", [6]),
    ("हिन", []),
    ("東京 ЖИЗНЬ", [6]),
    ("OR", [7]),
    ("NEAR x:y", [7]),
    ("tick' -- ; DROP", []),
    ("-not", [7]),
    ("ba*", []),
    ("`back`", [7]),
    ("❤️ end", [7]),
    ("cr\u00e8me", [9, 10]),
    ("CRE\u0300ME", [9, 10]),
    ('"Cre\u0300me br\u00fbl\u00e9e" \ud55c\uad6d\uc5b4', [9, 10]),
    ("\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165 h\u0331", [9, 10]),
    ("H\u0331 \u1e96", [9, 10]),
    ("creme", []),
    ("widths FULL\uff41\uff42", [11]),
    ("fullab", []),
]


def found(store: EventStore, text: str, *, limit: int = 50, **criteria: Any) -> list[Match]:
    """Search for a text, read all pages, and return all matches."""
    query = SearchQuery(Terms.of(text), **criteria)
    page = store.search(query, limit=limit)
    matches = list(page)
    while page.next is not None:
        assert len(page) == limit
        page = store.search(query, after=page.next, limit=limit)
        assert 0 < len(page) <= limit
        matches += page
    return matches


def hits(store: EventStore, text: str, **criteria: Any) -> list[str]:
    """Search for a text, and return the session id of each match."""
    return [match.session_id for match in found(store, text, **criteria)]


class SearchContract(Harness):
    """Tests that a search returns every current text that contains all of the search terms, each text exactly once.

    The texts must come in the order that ``EventStore.search`` specifies.
    """

    def test_texts_are_found_by_their_words(self, store: EventStore) -> None:
        if self.lacks("search", lambda: found(store, "x")):
            return
        messages = [Change("message", f"m{n:02}", {"role": "user", "content": text}) for n, text in enumerate(TEXTS)]
        begin(store, "s", *messages)
        for text, numbers in FINDS:
            assert [match.key for match in found(store, text)] == [f"m{number:02}" for number in numbers], text

    def test_matches_come_newest_session_first_in_pages_that_join(self, store: EventStore, clock: SetClock) -> None:
        if self.lacks("search", lambda: found(store, "x")):
            return
        for session_id in ("s:1", "é 2", "same"):
            clock.move(60)
            begin(store, session_id, Change("question", value="A needle?"), Change("title", value="Needle"))
        begin(store, "samé", Change("summary", value="needle"))
        parts = [{"type": "image"}, {"text": "no"}, {"text": 5}, {"text": "a  \n NEEDLE here"}]
        store.append("é 2", event(5, Change("message", "b:2", {"role": "user", "content": parts})))
        say = [Change("message", key, {"role": "user", "content": f"{key} needle"}) for key in ("b:1", "a")]
        store.append("é 2", event(6, *say))
        store.append("é 2", event(7, Change("strategy", value="needle"), Change("attribute", "needle", "needle")))
        at = [START + number * MINUTE for number in range(4)]
        expected = [
            Match("samé", "ada", "summary", "", 1, at[3], "needle"),
            Match("same", "ada", "question", "", 1, at[3], "A needle?"),
            Match("same", "ada", "title", "", 1, at[3], "Needle"),
            Match("é 2", "ada", "question", "", 1, at[2], "A needle?"),
            Match("é 2", "ada", "title", "", 1, at[2], "Needle"),
            Match("é 2", "ada", "message", "b:2", 2, at[2], "no a NEEDLE here", "user"),
            Match("é 2", "ada", "message", "a", 3, at[2], "a needle", "user"),
            Match("é 2", "ada", "message", "b:1", 3, at[2], "b:1 needle", "user"),
            Match("s:1", "ada", "question", "", 1, at[1], "A needle?"),
            Match("s:1", "ada", "title", "", 1, at[1], "Needle"),
        ]
        for limit in (50, 10, 3):
            assert found(store, "needle", limit=limit) == expected, f"at limit {limit}"
        narrowed: list[tuple[dict[str, Any], Iterable[int]]] = [
            ({"user_id": "ada"}, range(10)),
            ({"user_id": "nobody"}, []),
            ({"session_id": "s:1"}, [8, 9]),
            ({"session_id": "nowhere"}, []),
            ({"created_from": at[3]}, [0, 1, 2]),
            ({"created_until": at[2]}, [8, 9]),
            ({"created_from": at[2], "created_until": at[3], "user_id": "ada", "session_id": "é 2"}, range(3, 8)),
            ({"created_from": at[3], "session_id": "s:1"}, []),
        ]
        for criteria, numbers in narrowed:
            assert found(store, "needle", limit=4, **criteria) == [expected[number] for number in numbers], criteria

    def test_only_what_stands_now_is_found(self, store: EventStore) -> None:
        if self.lacks("search", lambda: found(store, "x")):
            return
        say = {key: Change("message", key, {"role": "user", "content": "needle"}) for key in "abc"}
        begin(store, "s", *say.values(), Change("title", value="needle"), Change("summary", value="needle"))
        begin(store, "gone", Change("title", value="needle"))
        assert len(found(store, "needle")) == 6
        other = Change("message", "a", {"role": "user", "content": "pin"})
        store.append("s", event(1, other, Change("message", "b", removed=True), Change("title", value="pin")))
        store.append("gone", event(2, Change("status", value="deleted")))
        left = [("message", "c"), ("summary", "")]
        assert [(match.field, match.key) for match in found(store, "needle")] == left
        assert [(match.field, match.key) for match in found(store, "pin")] == [("message", "a"), ("title", "")]
        store.append("gone", event(3, Change("status", removed=True)))
        store.append("s", event(4, Change("message", "a", {"role": "tool", "content": {"text": "needle"}})))
        store.append("s", event(5, Change("message", "b", {"role": "user", "content": "needle"})))
        assert set(hits(store, "needle")) == {"s", "gone"}
        assert [match.version for match in found(store, "needle", session_id="s")] == [1, 1, 4]

    def test_what_was_taken_over_is_found(self, store: EventStore) -> None:
        if self.lacks("search", lambda: found(store, "x")):
            return
        store.ingest([recorded(1, 1, [Change("title", value="a needle"), Change("status", value="active")])])
        assert [(match.version, match.snippet) for match in found(store, "needle")] == [(1, "a needle")]
        store.ingest([recorded(2, 2, [Change("title", value="a pin")])])
        assert (found(store, "needle"), len(found(store, "pin"))) == ([], 1)

    def test_a_user_finds_their_own_and_what_is_shared_with_them(self, store: EventStore) -> None:
        if self.lacks("search", lambda: found(store, "x")):
            return
        begin(store, "own", Change("title", value="needle"))
        for session_id, access in [("read", "read"), ("write", "write"), ("hers", None)]:
            grants = [Change("grant", "ada", access)] if access else []
            begin(store, session_id, Change("title", value="needle"), *grants, user_id="bob")
        assert set(hits(store, "needle", visible_to="ada")) == {"own", "read", "write"}
        assert set(hits(store, "needle", visible_to="ada", user_id="bob")) == {"read", "write"}
        assert set(hits(store, "needle", visible_to="bob")) == {"read", "write", "hers"}
        assert hits(store, "needle", visible_to="eve") == []
        store.append("read", event(9, Change("grant", "ada", removed=True)))
        assert set(hits(store, "needle", visible_to="ada", user_id="bob")) == {"write"}

    def test_a_search_for_a_role_finds_messages_of_this_role_alone(self, store: EventStore) -> None:
        if self.lacks("search", lambda: found(store, "x")):
            return
        messages = [Change("message", key, {"role": key, "content": "needle"}) for key in ("user", "tool", "assistant")]
        store.append("s", event(1, *messages, Change("title", value="needle"), user_id="ada"))
        assert [(it.key, it.role) for it in found(store, "needle", role="tool")] == [("tool", "tool")]
        assert found(store, "needle", role="system") == []
        assert {(it.field, it.role) for it in found(store, "needle")} == {
            *(("message", role) for role in ("user", "tool", "assistant")),
            ("title", None),
        }
        assert [it.key for it in found(store, "needle", limit=1, role="user")] == ["user"]

    def test_a_search_that_cannot_be_is_refused(self, store: EventStore) -> None:
        if self.lacks("search", lambda: found(store, "x")):
            return
        x = Terms.of("x")
        bad: list[dict[str, Any]] = [
            *(
                {"role": 5},
                {"role": ""},
                {"role": "human"},
                {"role": "User"},
                {"user_id": 5},
                {"user_id": ""},
                {"session_id": ""},
                {"session_id": "\ud800"},
            ),
            *({"created_from": datetime(2026, 1, 1)}, {"created_until": "now"}),  # noqa: DTZ001
        ]
        refusals(InvalidInput, bad, lambda it: store.search(SearchQuery(x, **it)))
        cursors: list[Any] = ["", ":", "5", "W10", "WzUsInMiXQ", "\ud800", "é", "9" * 5000, 5, b"1:x"]
        refusals(InvalidInput, cursors, lambda it: store.search(SearchQuery(x), after=it), "after")
        limits: list[Any] = [0, -1, True, "5", 2.0, None, 10**9]
        refusals(InvalidInput, limits, lambda it: store.search(SearchQuery(x), limit=it), "limit")
