"""Status and results of tool calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

from ledger.model.call_times import CallTimes, call_times
from ledger.model.events import AppendResult, Change, Envelope
from ledger.model.fields import ToolStatus
from ledger.model.fold import State
from ledger.model.tool_calls import call_id_of
from ledger.model.values import check_text
from ledger.sdk.frames import ToolCallPage
from ledger.sdk.opening import UNSET
from ledger.sdk.reading import Reading


class ToolCalls(Reading):
    """Mixin class: tool calls of a session."""

    def update_tool_call_status(
        self, session_id: str, tool_name: str, status: ToolStatus, result: Any = UNSET, **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Set the status of a tool call and, if given, its result.

        Args:
            session_id: The session.
            tool_name: The call's id, or its name if only one call has that name. Of calls that were planned by one name
                without ids (``search#1``, ``search#2``), the name means the first that is neither completed nor failed,
                or else the last; so it does if one of them has the name as its id. If no call has this id or name, a
                call is created with it as both id and name.
            status: ``pending``, ``running``, ``completed`` or ``failed``.
            result: Any JSON value. If not given, an earlier result stays, also that of a former run whose call is now
                ``running`` or ``failed``.
            envelope: See ``Envelope``.

        Returns:
            The result of the append.

        Raises:
            SessionNotFound, SessionEnded: As for ``update_session``.
            InvalidInput: The status is none of the four, or several calls have this name.
        """
        check_text(tool_name, "tool_name")

        def changes(state: State) -> list[Change]:
            call_id = call_id_of(tool_name, state)
            call = [Change("tool_call_status", call_id, status)]
            if ("tool_call", call_id) not in state and ("tool_call_status", call_id) not in state:
                call.insert(0, Change("tool_call", call_id, {"name": tool_name}))
            return call if result is UNSET else [*call, Change("tool_call_result", call_id, result)]

        return self._derive(session_id, "tool_call.updated", changes, envelope)

    def get_tool_calls(self, session_id: str) -> ToolCallPage:
        """Return the tool calls of a session in their order, with the times at which they started and finished.

        The times are those of the events that changed the status of a call, so the whole history is read.
        ``Session.calls`` has the calls without their times.

        Args:
            session_id: The session.

        Returns:
            All calls. ``to_frame`` gives a DataFrame.

        Raises:
            SessionNotFound: The session does not exist.
            CorruptEvent, UpcastMissing: A row cannot be read.

        Source: sql/views/tool_calls.sql has the same columns.
        """
        session = self._require(session_id)
        times = call_times(event for event in self.history(session_id) if event.version <= session.version)
        return ToolCallPage(replace(call, times=times.get(call.call_id, CallTimes())) for call in session.calls)

    def is_session_complete(self, session_id: str) -> bool:
        """Return True if the session has at least one tool call and all of them are completed.

        Raises:
            SessionNotFound: The session does not exist.
        """
        return self._require(session_id).complete
