"""Seals: the Merkle root against RFC 6962's own definition, and what a file of a seal must be."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidInput
from ledger.model.seals import Leaf, MerkleTree, Seal, checked, leaves_of, lines, seal_of

HASHES = st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex)
LEAVES = st.builds(
    Leaf,
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20),
    st.integers(-(2**50), 2**50),
    st.integers(1, 2**40),
    HASHES,
)
SESSIONS = st.lists(LEAVES, max_size=40, unique_by=lambda leaf: leaf.session_id)
SEAL = Seal("seal-1", datetime(2026, 11, 30, tzinfo=UTC), "store-1", 0, 0, 0, sha256().hexdigest(), None)


def naive_root(entries: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return sha256(b"\x01" + naive_root(entries[:k]) + naive_root(entries[k:])).digest()


def root_of(leaves: list[Leaf]) -> str:
    tree = MerkleTree()
    for leaf in sorted(leaves):
        tree.add(leaf.entry())
    return tree.root()


def sealed(leaves: list[Leaf]) -> Seal:
    events = sum(leaf.version for leaf in leaves)
    return replace(SEAL, root=root_of(leaves), sessions=len(leaves), events=events)


def read(seal: Seal, text: bytes) -> list[Leaf]:
    first, *rest = text.splitlines(keepends=True)
    assert seal_of(first, "f") == seal
    return list(checked(seal, leaves_of(rest, "f"), "f"))


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_root_is_that_of_rfc_6962(entries):
    tree = MerkleTree()
    for count, entry in enumerate(entries):
        assert tree.root() == naive_root(entries[:count]).hex()
        tree.add(entry)
    assert (tree.root(), tree.count) == (naive_root(entries).hex(), len(entries))


def test_the_root_is_the_one_that_others_compute_too():
    """Test vectors of the Certificate Transparency project: seven entries, and the root of each prefix."""
    entries = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    tree = MerkleTree()
    for entry, root in zip(entries, roots, strict=True):
        tree.add(bytes.fromhex(entry))
        assert tree.root() == root


@given(SESSIONS, st.randoms())
def test_the_order_in_which_sessions_come_does_not_count(leaves, chance):
    shuffled = [*leaves]
    chance.shuffle(shuffled)
    assert root_of(shuffled) == root_of(leaves)


@given(SESSIONS.filter(bool), st.data())
def test_any_other_leaf_has_another_root(leaves, data):
    at = data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(LEAVES.filter(lambda leaf: leaf.session_id not in {each.session_id for each in leaves}))
    field = data.draw(
        st.sampled_from(Leaf._fields).filter(lambda name: getattr(other, name) != getattr(leaves[at], name))
    )
    changed = leaves[at]._replace(**{field: getattr(other, field)})
    roots = {
        root_of(some)
        for some in (
            leaves,
            [*leaves, other],
            leaves[:at] + leaves[at + 1 :],
            [*leaves[:at], changed, *leaves[at + 1 :]],
        )
    }
    assert len(roots) == 4


@given(SESSIONS)
def test_a_file_gives_back_the_seal_and_its_leaves(leaves):
    seal = sealed(leaves)
    assert read(seal, b"".join(lines(seal, sorted(leaves)))) == sorted(leaves)


@given(SESSIONS.filter(bool), st.data())
def test_a_file_that_was_changed_or_cut_off_is_refused(leaves, data):
    seal = sealed(leaves)
    text = b"".join(lines(seal, sorted(leaves)))
    start = text.index(b"\n") + 1
    at = data.draw(st.integers(start, len(text) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[at]))
    for other in (text[:at], text[:at] + bytes([byte]) + text[at + 1 :], text + text[start:]):
        found = None
        with suppress(InvalidInput):
            found = read(seal, other)
        assert found in (None, sorted(leaves))  # the same, if the other byte is another spelling of the same JSON


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"", "is not a seal"),
        (b"[]", "is not a seal"),
        (b"{}", "is not a seal"),
        (b'{"kind": "other", "format_version": 1}', "is not a seal"),
        (b'{"kind": "session-ledger.seal", "format_version": "1"}', "is not a seal"),
        (b'{"kind": "session-ledger.seal", "format_version": 2}', "upgrade session-ledger"),
        (b'{"kind": "session-ledger.seal", "format_version": 1}', "damaged"),
        (next(lines(SEAL, [])).replace(b"2026-", b"x"), "damaged"),
        (next(lines(SEAL, [])).replace(b'"sessions":0', b'"sessions":"0"'), "damaged"),
    ],
)
def test_what_is_no_seal_is_refused(line, says):
    with pytest.raises(InvalidInput, match=says):
        seal_of(line, "some.jsonl")


@given(SESSIONS.filter(bool))
def test_the_program_in_the_guide_computes_the_root(tmp_path_factory, leaves):
    """Without this package, as somebody would who does not trust it."""
    page = (Path(__file__).parents[2] / "docs" / "seals.md").read_text(encoding="utf-8")
    program = page.split("```python\n")[1].split("```")[0]
    folder = tmp_path_factory.mktemp("guide")
    seal = sealed(leaves)
    (folder / "ledger.seal").write_bytes(b"".join(lines(seal, sorted(leaves))))
    said: list[object] = []
    exec(program.replace('"ledger.seal"', repr(str(folder / "ledger.seal"))), {"print": said.append})  # noqa: S102
    assert said == [True]
