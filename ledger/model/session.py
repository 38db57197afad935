"""Session: a session's state as an object, with its messages and tool calls.

A ``Session`` is a typed object and a mapping with the columns of ``sql/views/sessions.sql``: ``session.question`` and
``session["question"]`` are the same. The attributes for fields are declared here for type checkers and editors; the
fields are defined in ``ledger.model.fields``, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar, overload

import orjson

from ledger.errors import CorruptEvent, MessagesNotRead
from ledger.model.call_times import CallTimes
from ledger.model.dict_form import DictForm
from ledger.model.display import html_of_object
from ledger.model.fields import FIELDS, Role, ToolStatus
from ledger.model.fold import Origin, Register, RegisterValue, State
from ledger.model.instants import from_text, to_text
from ledger.model.lifetime import status_at
from ledger.model.names import did_you_mean
from ledger.model.query_statistics import QueryStatistics
from ledger.model.tool_calls import ids_in_order
from ledger.model.values import decode

T = TypeVar("T")

#: Columns of the ``sessions`` view, in its order; also the keys of a Session as a mapping.
COLUMNS = (
    *("session_id", "user_id", "question", "constraints", "response_plan", "strategy", "summary", "status"),
    *("tool_calls", "tool_call_status", "tool_call_results", "created_at", "updated_at"),
    *("version", "title", "session_type", "expires_at"),
)


#: Attributes of ``Session`` that are fields, not columns, and have no form of their own: single values, and mappings.
VALUES = tuple(
    it.attribute for it in FIELDS.values() if not it.keyed and not it.own_form and it.attribute not in COLUMNS
)
MAPS = tuple(it.attribute for it in FIELDS.values() if it.keyed and not it.own_form)
K = TypeVar("K", str, tuple[str, str])
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Head:
    """A session without its state.

    Attributes:
        session_id, user_id, created_at: The session, its owner and its creation time.
        version: Its latest version.
        updated_at: The time at which its last event was recorded.
        event_hash: The hash of its last event; None without a hash chain.
        store_id: The store that recorded its last event.
    """

    session_id: str
    user_id: str
    created_at: datetime
    version: int
    updated_at: datetime
    event_hash: str | None
    store_id: str


@dataclass(frozen=True, slots=True)
class Message(DictForm):
    """A message of a session. Messages are ordered by ``version``, then ``message_id``. Absent parts are None.

    Attributes:
        role: A role, or ``erased`` if the value was erased, as it may be in an imported session.
        actor: The user or program that wrote the message.
        occurred_at: Time of the message by the writer's clock, in UTC.
        recorded_at: Time at which the message was recorded, in UTC.
    """

    message_id: str
    version: int
    role: Role | Literal["erased"]
    content: Any
    tools_used: Any = None
    processing_time_ms: Any = None
    token_count: Any = None
    error: Any = None
    metadata: Any = None
    payload: Any = None
    actor: str | None = field(kw_only=True)
    occurred_at: datetime = field(kw_only=True)
    recorded_at: datetime = field(kw_only=True)

    @classmethod
    def from_value(cls, message_id: str, version: int, value: Mapping[str, Any] | None, origin: Origin) -> Message:
        """Return the message for a recorded value.

        If the value was erased, the message has the role ``erased`` and no content.
        """
        if value is None:
            value = _ERASED
        if type(value) is not dict and not isinstance(value, Mapping):  # the first takes a sixth of the time
            raise CorruptEvent(
                f"The message {message_id!r} of version {version} is stored as {type(value).__name__}, not as an "
                "object. `ledger verify` says what is damaged.",
                version=version,
            )
        get = value.get
        return cls(
            message_id,
            version,
            get("role", ""),
            get("content"),
            get("tools_used"),
            get("processing_time_ms"),
            get("token_count"),
            get("error"),
            get("metadata"),
            get("payload"),
            actor=origin.actor,
            occurred_at=origin.occurred_at,
            recorded_at=origin.recorded_at,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the message as a JSON object with a key for each part, as ``ledger show --json`` prints it."""
        parts = {part: getattr(self, part) for part in MESSAGE_PARTS}
        times = {"occurred_at": to_text(self.occurred_at), "recorded_at": to_text(self.recorded_at)}
        return {"message_id": self.message_id, "version": self.version, **parts, "actor": self.actor, **times}


_ERASED: Mapping[str, Any] = {"role": "erased"}
#: The parts of a recorded message, in the order of ``Message``.
MESSAGE_PARTS = (
    *("role", "content", "tools_used", "processing_time_ms", "token_count", "error", "metadata", "payload"),
)


@dataclass(frozen=True, slots=True)
class ToolCall(DictForm):
    """A tool call.

    Attributes:
        call_id, name: The id, and the tool's name.
        status: ``pending``, ``running``, ``completed`` or ``failed``.
        result: Any JSON value; None if there is no result, see ``has_result``.
        has_result: True if a result was recorded.
        definition: The planned call, as recorded.
        times: When the call started and finished. None in ``Session.calls``, which are read from the state alone;
            ``SessionLedger.get_tool_calls`` reads them.
    """

    call_id: str
    name: str
    status: ToolStatus
    result: Any
    has_result: bool
    definition: dict[str, Any]
    times: CallTimes | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the call as a JSON object.

        It has the key ``result`` only if a result was recorded, and those of ``times`` only if they were read.
        """
        parts = {name: getattr(self, name) for name in ("call_id", "name", "status", "definition")}
        parts |= {"result": self.result} if self.has_result else {}
        return parts | ({} if self.times is None else self.times.to_dict())


class _Part(Generic[T]):
    """Descriptor of a read-only attribute of a Session, which is computed at first use and then kept."""

    def __init__(self, read: Callable[[Session], T], doc: str | None = None) -> None:
        self._read = read
        self.__doc__ = doc or read.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, session: None, owner: type) -> _Part[T]: ...
    @overload
    def __get__(self, session: Session, owner: type) -> T: ...
    def __get__(self, session: Session | None, owner: type) -> T | _Part[T]:
        if session is None:
            return self
        try:
            return session._parts[self._name]  # type: ignore[no-any-return]
        except KeyError:
            value = session._parts[self._name] = self._read(session)
            return value

    def __set__(self, session: Session, value: Any) -> None:
        raise AttributeError(f"A Session is read-only; change {self._name} through the ledger.")


def _single(field: str) -> _Part[Any]:
    return _Part(lambda session: session._value(field), FIELDS[field].doc)


def _by_key(field: str) -> _Part[dict[str, Any]]:
    return _Part(lambda session: session._keyed(field), FIELDS[field].doc)


class Session(DictForm, Mapping[str, Any]):
    """The state of a session at a version.

    As a mapping it has the seventeen columns of the ``sessions`` view; other fields are attributes only. Values are
    decoded at first use and belong to this object: changing them does not change the ledger or other objects.

    Args:
        head: The session's head.
        state: The session's state.
        with_messages: True if ``state`` includes the messages.
        now: Timezone-aware time for which the status is computed: the session is ``expired`` if its ``expires_at`` has
            passed. If None, the status is the recorded one.
    """

    __slots__ = ("_now", "_parts", "_state", "_with_messages", "head")

    def __init__(self, head: Head, state: State, *, with_messages: bool = False, now: datetime | None = None) -> None:
        self.head = head
        self._now = now
        self._state = state
        self._with_messages = with_messages
        self._parts: dict[str, Any] = {}

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self.head.session_id

    @property
    def user_id(self) -> str:
        """The session's owner."""
        return self.head.user_id

    @property
    def created_at(self) -> datetime:
        """The creation time, in UTC."""
        return self.head.created_at

    @property
    def updated_at(self) -> datetime:
        """The time at which the last event was recorded, in UTC."""
        return self.head.updated_at

    @property
    def version(self) -> int:
        """The version of this state, which is the number of its last event."""
        return self.head.version

    question: _Part[str | None] = _single("question")
    """The user's question."""
    title: _Part[str | None] = _single("title")
    """A short name, for lists."""
    session_type: _Part[str | None] = _single("session_type")
    """The kind of session, for example ``chat``."""
    summary: _Part[str | None] = _single("summary")
    """The outcome, in short."""
    constraints: _Part[dict[str, Any] | None] = _single("constraints")
    """The constraints that narrow the question; tool calls listed in them become pending."""
    response_plan: _Part[dict[str, Any] | None] = _single("response_plan")
    """The plan of the answer."""
    strategy: _Part[Any] = _single("strategy")
    """The strategy for answering the question."""
    error: _Part[dict[str, Any] | None] = _single("error")
    """The error that made the session fail."""
    lineage: _Part[dict[str, Any] | None] = _single("lineage")
    """The session and version that this session was forked from, or that was its template."""
    model_calls: _Part[dict[str, Any]] = _by_key("model_call")
    """Calls of language models by call id."""
    attributes: _Part[dict[str, Any]] = _by_key("attribute")
    """Attributes by name; sessions can be listed and counted by them."""
    context: _Part[dict[str, Any]] = _by_key("context")
    """Context values by name."""
    results: _Part[dict[str, Any]] = _by_key("result")
    """Intermediate results by name."""
    queries: _Part[dict[str, Any]] = _by_key("query")
    """Queries made for the session, by query id."""
    scores: _Part[dict[str, Any]] = _by_key("score")
    """Scores of the session by score id."""
    grants: _Part[dict[str, Any]] = _by_key("grant")
    """Grants to other users by user id."""
    children: _Part[dict[str, Any]] = _by_key("child")
    """Forks of this session and sessions created from it as a template, by session id."""

    @_Part
    def status(self) -> str | None:
        """The status; None if an update has removed it.

        From ``expires_at`` on it is ``expired``, even if no event has recorded that yet.
        """
        recorded = self.recorded_status
        return recorded if self._now is None else status_at(recorded, self.expires_at, self._now)

    @property
    def recorded_status(self) -> str | None:
        """The status as last recorded."""
        status: str | None = self._value("status")
        return status

    @_Part
    def expires_at(self) -> datetime | None:
        """The time at which the session expires, in UTC; None for never."""
        text = self._value("expires_at")
        return None if text is None else from_text(text)

    @_Part
    def query_statistics(self) -> QueryStatistics:
        """Statistics of the queries."""
        return QueryStatistics.of(self.queries.values())

    @_Part
    def tags(self) -> tuple[str, ...]:
        """Tags, sorted."""
        return tuple(sorted(key for _, key in self._registers("tag")))

    @_Part
    def free(self) -> dict[tuple[str, str], Any]:
        """Values of ``x_`` fields by (field, key)."""
        return {register: self._decoded(held) for register, held in self._state.items() if register[0].startswith("x_")}

    @property
    def has_messages(self) -> bool:
        """True if the session was read with its messages."""
        return self._with_messages

    @_Part
    def messages(self) -> tuple[Message, ...]:
        """Messages in order.

        Raises:
            MessagesNotRead: The session was read without its messages.
        """
        if not self._with_messages:
            raise MessagesNotRead(
                f"Session {self.session_id} was read without its messages. Read them with "
                f"get_messages({self.session_id!r}), or with get_session({self.session_id!r}, messages=True)."
            )
        registers = [(register[1], self._state[register]) for register in self._registers("message")]
        messages = [self._message(key, held) for key, held in registers]
        return tuple(sorted(messages, key=lambda message: (message.version, message.message_id)))

    @_Part
    def calls(self) -> tuple[ToolCall, ...]:
        """Tool calls, in the order of the versions that planned them, then by id.

        An id that has only a result, and neither a planned call nor a status, is not a tool call.
        """
        return tuple(self._call(call_id) for call_id in ids_in_order(self._state))

    @_Part
    def tool_calls(self) -> list[str]:
        """The ids of the tool calls, in the order of ``calls``."""
        return [call.call_id for call in self.calls]

    @_Part
    def tool_call_status(self) -> list[ToolStatus]:
        """The status of each tool call, in the order of ``calls``."""
        return [call.status for call in self.calls]

    @_Part
    def tool_call_results(self) -> dict[str, Any] | None:
        """Results of tool calls by call id; None if no call has a result."""
        return self._keyed("tool_call_result") or None

    @property
    def complete(self) -> bool:
        """True if there is at least one tool call and all of them are completed."""
        return bool(self.calls) and all(call.status == "completed" for call in self.calls)

    def to_dict(self) -> dict[str, Any]:
        """Return the session as a new JSON object, as ``ledger show --json`` prints it.

        The object has the columns of the view ``sessions``; ``tool_calls`` is a list of objects, in place of
        ``tool_call_status`` and ``tool_call_results``. It also has the fields that the view lacks, each named like its
        attribute, and ``messages`` if they were read. Times are RFC 3339 text.
        """
        return decode(self.to_json())  # type: ignore[no-any-return]

    def to_json(self) -> str:
        """Return ``to_dict`` as JSON text."""
        document = {column: self[column] for column in self}
        document["tool_calls"] = [call.to_dict() for call in self.calls]
        del document["tool_call_status"], document["tool_call_results"]
        document |= {name: getattr(self, name) for name in VALUES}
        document |= {name: in_order(getattr(self, name)) for name in MAPS}
        document["tags"] = list(self.tags)
        free = in_order(self.free).items()
        document["free"] = [{"field": field, "key": key, "value": value} for (field, key), value in free]
        if self._with_messages:
            document["messages"] = [message.to_dict() for message in self.messages]
        return orjson.dumps(document, default=to_text, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()

    def __getitem__(self, column: str) -> Any:
        if column in COLUMNS:
            return getattr(self, column)
        if isinstance(getattr(type(self), str(column), None), _Part | property):
            raise KeyError(f"{column} is an attribute, not a column: session.{column}")
        hint = did_you_mean(str(column), COLUMNS, "")
        raise KeyError(f"There is no column {column!r}. {hint}" if hint else column)

    def __contains__(self, column: object) -> bool:
        return column in COLUMNS

    def __iter__(self) -> Iterator[str]:
        return iter(COLUMNS)

    def __len__(self) -> int:
        return len(COLUMNS)

    def __repr__(self) -> str:
        return f"Session({self.session_id!r}, version={self.version}, status={self.status!r})"

    def _repr_html_(self) -> str:
        return html_of_object(f"Session {self.session_id}", self.to_dict())

    def __reduce__(self) -> tuple[Any, ...]:
        # The state may be a view of one that a store keeps, which cannot be copied.
        return _restored, (self.head, dict(self._state), self._with_messages, self._now)

    def _value(self, field: str) -> Any:
        held = self._state.get((field, ""))
        if held is None:
            return None
        try:
            return held.value
        except CorruptEvent:
            return self._decoded(held)

    def _keyed(self, field: str) -> dict[str, Any]:
        state, registers = self._state, self._registers(field)
        if FIELDS[field].ordered:
            registers.sort(key=lambda register: (state[register].version, register[1]))
        try:
            return {register[1]: state[register].value for register in registers}
        except CorruptEvent:
            return {register[1]: self._decoded(state[register]) for register in registers}

    def _decoded(self, held: RegisterValue) -> Any:
        """Return a value. The error for a damaged one names the session and the version."""
        try:
            return held.value
        except CorruptEvent as error:
            message = f"Session {self.session_id}, version {held.version}: {error}"
            raise CorruptEvent(message, session_id=self.session_id, version=held.version) from error

    def _message(self, key: str, held: RegisterValue) -> Message:
        if held.origin is None:
            raise CorruptEvent(f"The store did not give actor and times of message {key!r} (RegisterValue.origin).")
        return Message.from_value(key, held.version, self._decoded(held), held.origin)

    def _registers(self, field: str) -> list[Register]:
        return [register for register in self._state if register[0] == field]

    def _call(self, call_id: str) -> ToolCall:
        parts = (self._state.get((name, call_id)) for name in ("tool_call", "tool_call_status", "tool_call_result"))
        planned, status, result = parts
        definition = (self._decoded(planned) if planned else None) or {}
        return ToolCall(
            call_id,
            definition.get("name", call_id),
            (self._decoded(status) if status else None) or "pending",
            self._decoded(result) if result else None,
            result is not None,
            definition,
        )


def in_order(values: Mapping[K, V]) -> dict[K, V]:
    """Return a mapping as a dictionary sorted by key, because stores return the keys of a state in different orders."""
    return dict(sorted(values.items(), key=lambda item: item[0]))


def _restored(head: Head, state: State, with_messages: bool, now: datetime | None) -> Session:
    """Return a copied or unpickled session."""
    return Session(head, state, with_messages=with_messages, now=now)
