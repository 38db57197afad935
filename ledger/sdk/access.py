"""Who sees what: a ledger as one user sees it, and sessions that are shared."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, Self, Unpack

from ledger.errors import InvalidInput, PermissionDenied
from ledger.model.events import AppendResult, Change, Envelope
from ledger.model.fields import check_change
from ledger.model.fold import State
from ledger.model.values import check_text
from ledger.sdk.command_base import CommandBase
from ledger.stores.user_view import UserView

if TYPE_CHECKING:
    from ledger.tiers.attached import AttachedWarehouse


class Access(CommandBase):
    """Views of one user, and the grants by which one user's session is another's to see.

    Attributes:
        user_id: Whose view this is; None for the ledger itself, which sees everybody's sessions.
    """

    user_id: str | None = None

    def for_user(self, user_id: str) -> Self:
        """This ledger as one user sees it: with the same methods, over their own sessions and those shared with them.

        A session of somebody else is not there, whatever is called: ``SessionNotFound``, None or an empty page, as for
        an id that nobody has. Where it is shared, a ``read`` grant makes every change ``PermissionDenied``; with a
        ``write`` grant events have the user as their ``actor``, whoever is named, and only the owner changes grants,
        deletes and restores. New sessions are the user's, so ``user_id`` may be left out.

        A view costs nothing and may be made for each request. Closing it leaves this ledger open; this ledger closed,
        it is closed too. ``warehouse`` is not there for a user, since SQL sees everybody's rows.

        Raises:
            PermissionDenied: This is a view already, of another user.
        """
        check_text(user_id, "user_id")
        if self.user_id is not None:
            if user_id != self.user_id:
                raise PermissionDenied(f"This is the view of user {self.user_id}; it gives no view of another user.")
            return self
        view = copy(self)
        view.user_id = user_id
        view.store = UserView(self.store, user_id)
        view._warehouse = None
        # What this ledger remembers of sessions would show which there are; what a view registers is for that view.
        view._titled, view._begun = set(), {}
        view._profiles = dict(self._profiles)
        return view

    @property
    def warehouse(self) -> AttachedWarehouse:
        """The warehouse that this ledger ships to: ``sync``, ``status``, ``query``, ``refused``, ``retry``.

        Raises:
            ConfigurationError: It was opened without one.
            PermissionDenied: This is the view of one user.
        """
        if self.user_id is not None:
            raise PermissionDenied(
                f"The warehouse holds everybody's sessions, and this is the view of user {self.user_id} alone; use the "
                "ledger that for_user() was called on."
            )
        return super().warehouse

    def grant_access(self, session_id: str, user_id: str, access: str, **envelope: Unpack[Envelope]) -> AppendResult:
        """Share a session with another user, whether or not it has ended; a later grant replaces an earlier one.

        Args:
            user_id: With whom.
            access: ``read``, or ``write``: to append as well.

        Raises:
            SessionNotFound: There is no such session.
            InvalidInput: It is the owner's own, or ``access`` is neither.
            PermissionDenied: This is the view of a user who does not own it.
        """
        check_change("grant", check_text(user_id, "user_id"), access, removed=False)
        if self._require(session_id).user_id == user_id:
            raise InvalidInput(f"User {user_id} owns session {session_id} and needs no grant; nothing was written.")
        change = Change("grant", user_id, access)
        return self._append(session_id, "access.granted", [change], envelope, require_open=False)

    def revoke_access(self, session_id: str, user_id: str, **envelope: Unpack[Envelope]) -> AppendResult:
        """Share a session with a user no longer, whether or not it has ended.

        Raises:
            SessionNotFound: There is no such session.
            InvalidInput: It is not shared with this user; the message says with whom it is.
            PermissionDenied: This is the view of a user who does not own it.
        """
        check_text(user_id, "user_id")

        def changes(state: State) -> list[Change]:
            if ("grant", user_id) not in state:
                shared = ", ".join(sorted(key for field, key in state if field == "grant")) or "nobody"
                raise InvalidInput(
                    f"Session {session_id} is not shared with {user_id}, but with {shared}; nothing was written."
                )
            return [Change("grant", user_id, removed=True)]

        return self._derive(session_id, "access.revoked", changes, envelope, require_open=False)

    def get_grants(self, session_id: str) -> dict[str, str]:
        """With whom a session is shared: user id to ``read`` or ``write``.

        Raises:
            SessionNotFound: There is no such session.
        """
        grants: dict[str, str] = self._require(session_id).grants
        return dict(sorted(grants.items()))

    def _owner(self, user_id: str | None = None) -> str:
        """The owner of a session that is about to begin; on a view, its user."""
        if self.user_id is None:
            return super()._owner(user_id)
        if user_id not in (None, self.user_id):
            raise PermissionDenied(f"User {self.user_id} begins sessions of their own only; nothing was written.")
        return self.user_id

    def _event_id(self, session_id: str, envelope: Envelope, user_id: str | None = None) -> str:
        """As without a view; a key of a view's user is theirs, also in a session of somebody else."""
        return super()._event_id(session_id, envelope, user_id or self.user_id)

    def _listed(self, user_id: str | None, shared: bool) -> dict[str, Any]:
        """Whose sessions to list, as criteria: a user's own, or those shared with them."""
        if not shared:
            return {"user_id": user_id}
        holder = self.user_id if user_id is None else user_id
        if holder is None:
            raise InvalidInput("shared=True lists what is shared with a user; say with whom: user_id.")
        return {"granted_to": holder}
