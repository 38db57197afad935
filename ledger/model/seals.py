"""Seals: Merkle roots over the heads of all sessions. They reveal sessions that are rewritten or removed later.

A seal's leaves are the sessions, sorted by id. A leaf holds the session's id, its creation time, its version and the
``event_hash`` at this version, which covers all of the session's events up to it. So a leaf stays true for good: later
appends do not change the events that it covers. The owner is not in the leaf, since ``event_hash`` covers it too, and
seals are handed to outsiders.

Source: RFC 6962, section 2.1. If the number of leaves is odd, no leaf is duplicated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

import orjson

from ledger.errors import InvalidInput
from ledger.model.instants import from_text, to_text

#: The version of the seals that this release makes: of their leaves, their tree and their file.
FORMAT_VERSION: Final = 1
#: First item of every leaf, so that the hash of a leaf is that of nothing else in the ledger.
_DOMAIN = "session-ledger.seal.leaf.1"
_KIND = "session-ledger.seal"
Found = Literal["same", "purged", "elsewhere", "missing", "replaced", "shortened", "rewritten"]
#: Length of a root: 64 hexadecimal digits.
ROOT_DIGITS = 64


class Leaf(NamedTuple):
    """A leaf of a seal: one session at the time of sealing.

    Attributes:
        session_id: The session.
        created_at: Its creation time, in microseconds since 1970.
        version: Its version when it was sealed, 1 or more.
        event_hash: The hash of its last event that has a hash; None if no event has one. Events that a store without a
            hash chain appended have no hash. The seal covers the number of such events, and not their content.
    """

    session_id: str
    created_at: int
    version: int
    event_hash: str | None

    def is_sound(self) -> bool:
        """Return True if each value has the type of its attribute, which a damaged file or row may not have."""
        hashed = self.event_hash is None or type(self.event_hash) is str
        return hashed and (type(self.session_id), type(self.created_at), type(self.version)) == (str, int, int)

    def entry(self) -> bytes:
        """Return the leaf as the bytes that the Merkle tree hashes."""
        return orjson.dumps((_DOMAIN, *self))


class LeafCheck(NamedTuple):
    """The result of comparing a sealed session with a store or a warehouse.

    Attributes:
        leaf: The leaf.
        found: ``same``: the session has the sealed history, and may have gone on since. ``purged``: the ledger recorded
            that the session was deleted for good. ``elsewhere``: the session is archived, and the events that the seal
            covers are only in a warehouse, which was not queried. ``missing``: the session is gone, and no purge
            of it was recorded. ``replaced``: the id now belongs to a session that was created at another time.
            ``shortened``: events are missing at the end. ``rewritten``: the event at the sealed version has another
            hash.
        actual: The session's version now; 0 if there is none.
    """

    leaf: Leaf
    found: Found
    actual: int = 0


@dataclass(frozen=True, slots=True)
class SealComparison:
    """The result of comparing a ledger with a seal.

    Attributes:
        source: Where the seal was taken from: ``ledger``, ``warehouse``, ``file`` or ``caller``.
        seal: The seal; None if only a root was given, and the ledger has no seal with this root.
        sessions: Number of sealed sessions that were compared.
        purged: Ids of sealed sessions that the ledger recorded as purged since sealing; at most the first 1,000.
        purged_count: Number of all sealed sessions that were purged since sealing.
        elsewhere: Number of archived sessions whose sealed events are only in a warehouse that is not attached.
    """

    source: str
    seal: Seal | None
    sessions: int = 0
    purged: tuple[str, ...] = ()
    purged_count: int = 0
    elsewhere: int = 0


class MerkleTree:
    """A Merkle tree of a growing list of entries. The memory it takes grows with the logarithm of their number.

    Only the roots of the perfect subtrees are stored, from left to right. There is one for each bit that is set in the
    number of entries.
    """

    def __init__(self) -> None:
        self.count = 0
        self._peaks: list[bytes] = []

    def add(self, entry: bytes) -> None:
        """Append an entry."""
        node, count = sha256(b"\x00" + entry).digest(), self.count
        while count & 1:
            node, count = sha256(b"\x01" + self._peaks.pop() + node).digest(), count >> 1
        self._peaks.append(node)
        self.count += 1

    def root(self) -> str:
        """Return the root of the entries so far, in hexadecimal digits."""
        if not self._peaks:
            return sha256().hexdigest()
        node = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            node = sha256(b"\x01" + peak + node).digest()
        return node.hex()


@dataclass(frozen=True, slots=True)
class Seal:
    """A record of what a ledger held at one moment.

    Attributes:
        seal_id: The seal's own id.
        made_at: The time of sealing.
        store_id: The ledger that was sealed.
        sessions: Number of sessions, which are the leaves.
        events: Number of their events: the sum of their versions.
        last_seq: The ``seq`` of the ledger's last row.
        root: The Merkle root of the leaves, in hexadecimal digits.
        previous_root: The root of the ledger's seal before this one; None for the first.
        format_version: The version of leaves, tree and file.
    """

    seal_id: str
    made_at: datetime
    store_id: str
    sessions: int
    events: int
    last_seq: int
    root: str
    previous_root: str | None
    format_version: int = FORMAT_VERSION

    def as_json(self) -> dict[str, Any]:
        """Return the seal as a JSON object; ``seal_of`` is the inverse."""
        return {"kind": _KIND, **asdict(self), "made_at": to_text(self.made_at)}


def seal_of(text: str | bytes, where: str) -> Seal:
    """Parse a seal from a line of JSON.

    Args:
        text: A JSON object as ``Seal.as_json`` makes it.
        where: The file, for the message.

    Raises:
        InvalidInput: The text is no seal, or a newer release made it.
    """
    try:
        values = orjson.loads(text)
        kind, version = values.pop("kind"), values["format_version"]
        if kind != _KIND or not isinstance(version, int):
            raise TypeError(kind)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        raise InvalidInput(
            f"{where} is not a seal of a ledger; give a file that `ledger seal --output` wrote."
        ) from None
    if version > FORMAT_VERSION:
        raise InvalidInput(f"{where} has format {version}, newer than this release reads; upgrade session-ledger.")
    try:
        seal = Seal(**{**values, "made_at": from_text(values["made_at"], "made_at")})
    except (TypeError, KeyError, InvalidInput):
        raise InvalidInput(f"{where} is a damaged seal; use another copy of it.") from None
    if not (isinstance(seal.root, str) and isinstance(seal.store_id, str) and isinstance(seal.sessions, int)):
        raise InvalidInput(f"{where} is a damaged seal; use another copy of it.")
    return seal


def lines(seal: Seal, leaves: Iterable[Leaf]) -> Iterator[bytes]:
    """Yield the lines of a seal's file, each with its line break: the seal, then each leaf as a JSON array."""
    yield orjson.dumps(seal.as_json(), option=orjson.OPT_APPEND_NEWLINE)
    for leaf in leaves:
        yield orjson.dumps(tuple(leaf), option=orjson.OPT_APPEND_NEWLINE)


def leaves_of(rest: Iterable[bytes], where: str) -> Iterator[Leaf]:
    """Parse the leaves in a seal's file, and yield them.

    ``rest`` has all lines of the file except the first, which is the seal.

    Raises:
        InvalidInput: A line is no leaf.
    """
    for line in rest:
        try:
            leaf = Leaf(*orjson.loads(line))
        except (ValueError, TypeError):
            leaf = None
        if leaf is None or not leaf.is_sound():
            raise InvalidInput(f"{where} is a damaged seal; use another copy of it.")
        yield leaf


def checked(seal: Seal, leaves: Iterable[Leaf], where: str) -> Iterator[Leaf]:
    """Yield the given leaves, and check at the end that the Merkle root of all of them is the root of the seal.

    Raises:
        InvalidInput: The root is another, or the leaves are not sorted by session. The leaves yielded so far must then
            not be trusted.
    """
    tree, last = MerkleTree(), ""
    for leaf in leaves:
        if leaf.session_id <= last:
            break
        tree.add(leaf.entry())
        last = leaf.session_id
        yield leaf
    if (tree.root(), tree.count) != (seal.root, seal.sessions):
        raise InvalidInput(
            f"{where} does not have the root that it names: the file was changed or cut off. Use another copy."
        )
