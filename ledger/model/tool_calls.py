"""Tool calls in updates: the calls that a plan creates, and which call a name means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any

from ledger.errors import InvalidInput
from ledger.model.events import Change
from ledger.model.exact_json import value_or_text
from ledger.model.fold import RegisterValue, State
from ledger.model.json_form import json_form
from ledger.model.values import canonical, check_text

#: Statuses of a call that has been answered.
ANSWERED = ("completed", "failed")
#: Keys of a definition that may hold the arguments of the call.
_ARGUMENTS = ("arguments", "args", "input", "parameters")
_ID = "The id of a tool call"


def ids_in_order(state: State) -> list[str]:
    """Return the ids of a session's tool calls, in the order of the versions that planned them, then by id.

    An id that has only a result, and neither a planned call nor a status, is not a tool call.
    """
    first = {key: held.version for (field, key), held in state.items() if field == "tool_call_status"}
    first |= {key: held.version for (field, key), held in state.items() if field == "tool_call"}
    return sorted(first, key=lambda key: (first[key], key))


def planned_calls(calls: Iterable[tuple[str, dict[str, Any]]], state: State, changes: Sequence[Change]) -> list[Change]:
    """Return the changes that create the listed tool calls, with the status ``pending``.

    Args:
        calls: The id and the definition of each call; see ``listed_calls``.
        state: The session's state; of tool calls that it has already, only those without arguments get the listed ones.
        changes: Other changes of the event; tool calls that they create are skipped.
    """
    existing = {key for field, key in state if field in ("tool_call", "tool_call_status")}
    existing |= {change.key for change in changes if change.field in ("tool_call", "tool_call_status")}
    planned: list[Change] = []
    for call_id, definition in calls:
        if call_id not in existing:
            existing.add(call_id)
            planned.append(Change("tool_call", call_id, definition))
            planned.append(Change("tool_call_status", call_id, "pending"))
        elif (held := _value(state, call_id)) and arguments_of(held) is None and arguments_of(definition) is not None:
            planned.append(Change("tool_call", call_id, {**held, **definition}))
    return planned


def listed_calls(calls: Any, state: State) -> list[tuple[str, dict[str, Any]]]:
    """Return the id and the definition of each call of a list.

    Args:
        calls: A list. Each item is an object with a name, a name, or a call in OpenAI's form, which has its name and
            its arguments in ``function``. The id is ``id`` or ``call_id``, or else the name. If a list has a name
            several times without ids, the ids are ``name#1``, ``name#2`` ... Any other value lists none.
        state: The session's state. The calls of a name that it has are the first of this name in the list; the ids of
            the others continue their numbers.

    Raises:
        InvalidInput: A tool call has no name, its id is invalid, or two different calls have the same id.
    """
    if not isinstance(calls, list | tuple):
        return []
    definitions = [_definition(call) for call in calls]
    given = [it.get("id") or it.get("call_id") for it in definitions]
    ids = [check_text(call_id, _ID) for call_id in given if call_id]
    if len(set(ids)) < len(ids):
        _check_repeated(zip(given, definitions, strict=True))
    names = [it["name"] for it, call_id in zip(definitions, given, strict=True) if not call_id]
    made = _made_ids(names, ids, state)
    return [
        (call_id or check_text(next(made), _ID), definition)
        for call_id, definition in zip(given, definitions, strict=True)
    ]


def _check_repeated(calls: Iterable[tuple[Any, dict[str, Any]]]) -> None:
    first: dict[str, dict[str, Any]] = {}
    for call_id, definition in calls:
        held = first.setdefault(call_id, definition) if call_id else definition
        if (held["name"], _form(held)) != (definition["name"], _form(definition)):
            raise InvalidInput(
                f"The list of tool calls has the id {call_id!r} for two calls, of {held['name']!r} and "
                f"{definition['name']!r}, with different names or arguments; give each call an id of its own."
            )


def _made_ids(names: Sequence[str], taken: Iterable[str], state: State) -> Iterator[str]:
    """Yield an id for each call of a list that has none; see ``listed_calls``.

    Args:
        names: The names of these calls.
        taken: The ids that the list gives to other calls.
        state: The session's state.
    """
    used, own = set(taken), set(names)
    repeated = {name for name, times in Counter(names).items() if times > 1}
    turns = _in_turn(own, state)
    for name in names:
        first = turns[name] or [f"{name}#1" if name in repeated else name]
        new = (it for it in _further(name) if not _has_call(state, it))
        made = next(it for it in chain(first, new) if it not in used and (it == name or it not in own))
        used.add(made)
        yield made


def distinct_ids(names: Sequence[str]) -> list[str]:
    """Return an id for each name of an imported row: the name, or with a number (``search#2``) if it stands earlier.

    The ids differ from those of ``listed_calls``, so that a table that is imported again has the events of the first
    import.
    """
    used: set[str] = set()
    own = set(names)
    ids: list[str] = []
    for name in names:
        ids.append(next(it for it in chain([name], _further(name)) if it not in used and (it == name or it not in own)))
        used.add(ids[-1])
    return ids


def _definition(call: Any) -> dict[str, Any]:
    plain = call if isinstance(call, str | Mapping) else json_form(call, "a tool call")
    definition = {"name": plain} if isinstance(plain, str) else plain
    if isinstance(definition, Mapping) and not isinstance(definition.get("name"), str):
        definition = _of_function(definition)
    if not isinstance(definition, Mapping) or not isinstance(definition.get("name"), str):
        raise InvalidInput(
            "A tool call in a list must be an object with a name, or a name; a name in 'function', as OpenAI writes "
            "it, is also taken."
        )
    return dict(definition)


def _of_function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a call in OpenAI's form with the name and the arguments of its ``function`` beside its other keys."""
    function = json_form(call.get("function"), "function")
    if not isinstance(function, dict):
        return call
    if "arguments" in function:
        function["arguments"] = value_or_text(function["arguments"])
    return {**{key: value for key, value in call.items() if key != "function"}, **function}


def named_calls(calls: Any, state: State) -> list[tuple[str, dict[str, Any]]]:
    """Return the id and the definition of each call of a list, as ``listed_calls``, in view of the session's calls.

    Text may be the name, and not the id, of a call of the session. An object without id whose name a call of the
    session has is that call if it has no other arguments; else it is a new call, with the next number (``search#2``).

    Args:
        calls: A list; see ``listed_calls``.
        state: The session's state.

    Raises:
        InvalidInput: As for ``listed_calls``; several calls have a name; or an object has the id of a call of the
            session that has another name or other arguments.
    """
    listed = listed_calls(calls, state)
    known: dict[str, list[str]] = {}
    for known_id in ids_in_order(state):
        known.setdefault(_name(state, known_id), []).append(known_id)
    taken = {call_id for call_id, definition in listed if _has_own_id(definition)}
    times = Counter(definition["name"] for _, definition in listed if not _has_own_id(definition))
    named = []
    for call, (call_id, definition) in zip(calls, listed, strict=True):
        if isinstance(call, str) and times[call] == 1 and call not in taken:
            found = id_in_object(call, state)
        elif _has_own_id(definition):
            found = _checked(call_id, definition, state)
        elif arguments_of(definition) is None:
            found = call_id
        else:
            free = [it for it in known.get(definition["name"], ()) if it not in taken]
            found = _id_for(call_id, definition, state, free, taken)
        taken.add(found)
        named.append((found, definition))
    return named


def _has_own_id(definition: Mapping[str, Any]) -> bool:
    return bool(definition.get("id") or definition.get("call_id"))


def _checked(call_id: str, definition: Mapping[str, Any], state: State) -> str:
    held = _value(state, call_id)
    has_other_arguments = None not in map(arguments_of, (held, definition)) and _form(held) != _form(definition)
    if held and (held.get("name") != definition["name"] or has_other_arguments):
        raise InvalidInput(
            f"The tool call {call_id!r} has another name or other arguments in this session, and they are never "
            "replaced; give the new call an id of its own."
        )
    return call_id


def _id_for(
    call_id: str, definition: Mapping[str, Any], state: State, named: Sequence[str], taken: Collection[str]
) -> str:
    """Return the id of a listed call that has arguments and no id.

    Args:
        call_id: Its id in a session without calls.
        definition: Its definition.
        state: The session's state.
        named: Ids, in order, of the session's calls of this name that are not taken.
        taken: Ids of other calls of the list.
    """
    form = _form(definition)
    same = (it for it in named if _form(_value(state, it)) == form)
    planned = (it for it in named if arguments_of(_value(state, it)) is None and _status(state, it) not in ANSWERED)
    new = (it for it in chain([call_id], _further(definition["name"])) if not _has_call(state, it) and it not in taken)
    return next(chain(same, planned, new))


def arguments_of(definition: Mapping[str, Any] | None) -> Any:
    """Return the arguments in a definition; None if there are none."""
    return next((it for it in map((definition or {}).get, _ARGUMENTS) if it is not None), None)


def _form(definition: Mapping[str, Any] | None) -> str:
    """Return the arguments in a definition as canonical JSON."""
    return canonical(json_form(arguments_of(definition), "the arguments of a tool call"))


def listed_in(constraints: Any) -> Any:
    """Return the list ``tool_calls`` of constraints, which may be an object of any form; None if there is none."""
    if constraints is not None and not isinstance(constraints, Mapping):
        constraints = json_form(constraints, "constraints")
    return constraints.get("tool_calls") if isinstance(constraints, Mapping) else None


def with_calls(state: State, changes: Iterable[Change]) -> State:
    """Return a state in which the calls that changes plan have their names; the given state if they plan none."""
    names = {it.key: canonical({"name": it.value["name"]}) for it in changes if it.field == "tool_call"}
    if not names:
        return state
    return {**state, **{("tool_call", call_id): RegisterValue(name, 0, "") for call_id, name in names.items()}}


def id_in_object(call: str, state: State) -> str:
    """Return the id of the call that a list, or a key of an object, means: the call of this id, else of this name.

    Raises:
        InvalidInput: Several calls with other ids have this name.
    """
    return call if _has_call(state, call) else call_id_of(call, state)


def call_id_of(tool_name: str, state: State) -> str:
    """Return the id of the tool call that has this id or name. If there is no such call, return ``tool_name``.

    Of calls that one name planned without ids (``search#1``, ``search#2``; or ``search``, and ``search#2`` by a later
    list), the name means the first that is not answered yet, or else the last. The id of a call of another name always
    means this call.

    Raises:
        InvalidInput: Several calls with other ids have this name.
    """
    if _value(state, tool_name) is not None and _name(state, tool_name) != tool_name:
        return tool_name
    turns = _in_turn([tool_name], state)[tool_name]
    if turns:
        return next((call_id for call_id in turns if _status(state, call_id) not in ANSWERED), turns[-1])
    call_ids = [key for field, key in state if field == "tool_call" and _name(state, key) == tool_name]
    if len(call_ids) > 1:
        raise InvalidInput(f"Several tool calls are named {tool_name!r}; give the id: {', '.join(sorted(call_ids))}.")
    return call_ids[0] if call_ids else tool_name


def _in_turn(names: Iterable[str], state: State) -> dict[str, list[str]]:
    """Return for each name the ids of a session's calls that lists planned by it without ids, ordered by number.

    The call whose id is the name is the first of them, whatever its name is.
    """
    found = {name: [(0, name)] if _has_call(state, name) else [] for name in names}
    for field, key in state:
        if field == "tool_call":
            name, _, number = key.rpartition("#")
            if name in found and number.isascii() and number.isdigit() and _name(state, key) == name:
                found[name].append((int(number), key))
    return {name: [call_id for _, call_id in sorted(turns)] for name, turns in found.items()}


def _further(name: str) -> Iterator[str]:
    """Return the ids of the second and further calls of a name."""
    return (f"{name}#{number}" for number in count(2))


def _has_call(state: State, call_id: str) -> bool:
    return ("tool_call", call_id) in state or ("tool_call_status", call_id) in state


def _value(state: State, call_id: str) -> dict[str, Any] | None:
    held = state.get(("tool_call", call_id))
    return None if held is None else held.value


def _name(state: State, call_id: str) -> Any:
    return (_value(state, call_id) or {}).get("name")


def _status(state: State, call_id: str) -> Any:
    held = state.get(("tool_call_status", call_id))
    return None if held is None else held.value
