"""Access control: views of a ledger for one user, and grants on sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, Unpack

from ledger.errors import InvalidInput, PermissionDenied
from ledger.model.events import AppendResult, Change, Envelope
from ledger.model.fields import AccessLevel, check_change
from ledger.model.fold import State
from ledger.model.values import check_text
from ledger.sdk.command_base import CommandBase
from ledger.stores.user_view import UserView

if TYPE_CHECKING:
    from ledger.tiers.attached import AttachedWarehouse


class Access(CommandBase):
    """Mixin class: views of a ledger for one user, and grants by which owners share their sessions."""

    def for_user(self, user_id: str) -> Self:
        """Return a view of this ledger limited to one user's own sessions and those shared with them.

        The view has the same methods. For a session that the user may not see, calls raise ``SessionNotFound``, or
        return None or an empty page, as if the session did not exist. If another user has shared a session with a
        ``read`` grant, changing it raises ``PermissionDenied``; with a ``write`` grant, the user can change it, and is
        recorded as the ``actor`` of each change, even if the call names another actor. In sessions of their own, the
        actor is the one that the call names, as on the ledger itself. Only the owner of a session can change its
        grants, archive it, delete it, or restore it after a deletion. The view's user owns the sessions created on the
        view, so ``user_id`` may be omitted.

        Views are cheap: make one per request. Closing a view leaves this ledger open; closing this ledger closes its
        views. A view has no ``warehouse``, because SQL sees the rows of all users.

        Args:
            user_id: The user, 1 to 255 characters.

        Returns:
            A new view; the object itself if it is a view of the same user already.

        Raises:
            InvalidInput: ``user_id`` is not a valid id.
            PermissionDenied: This object is the view of another user.
        """
        check_text(user_id, "user_id")
        if self.user_id is not None:
            if user_id != self.user_id:
                raise PermissionDenied(
                    f"This is the view of user {self.user_id}, which gives no view of another user; call for_user() on "
                    "the ledger."
                )
            return self
        view = object.__new__(type(self))  # a shallow copy
        view.__dict__.update(self.__dict__)
        view.user_id = user_id
        view.store = UserView(self.store, user_id)
        view._warehouse = None
        # Shared caches would reveal which sessions exist; profiles registered on a view apply to that view alone.
        view._titled, view._by_key, view._forks = set(), {}, {}
        view._profiles = dict(self._profiles)
        return view

    @property
    def warehouse(self) -> AttachedWarehouse:
        """The warehouse that this ledger ships to.

        Its methods are ``sync``, ``status``, ``query``, ``refused``, ``retry`` and ``dismiss``.

        Raises:
            ConfigurationError: The ledger was opened without a warehouse.
            PermissionDenied: The ledger was returned by ``for_user``.
        """
        if self.user_id is not None:
            raise PermissionDenied(
                f"The warehouse holds the sessions of all users, and this is the view of user {self.user_id}; use the "
                "ledger that for_user() was called on."
            )
        return super().warehouse

    def grant_access(
        self, session_id: str, user_id: str, access: AccessLevel, **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Share a session with another user. Works on closed sessions too.

        A later grant to the same user replaces the earlier one.

        Args:
            session_id: The session.
            user_id: The user to share it with, 1 to 255 characters.
            access: ``read``, or ``write`` to allow appends as well.
            envelope: See ``Envelope``.

        Returns:
            The result of the append.

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: The user owns the session, or ``access`` is neither ``read`` nor ``write``.
            PermissionDenied: This is the view of a user who does not own the session.
        """
        check_change("grant", check_text(user_id, "user_id"), access, removed=False)
        if self._require(session_id).user_id == user_id:
            raise InvalidInput(f"User {user_id} owns session {session_id} and needs no grant; nothing was written.")
        change = Change("grant", user_id, access)
        return self._append(session_id, "access.granted", [change], envelope, require_open=False)

    def revoke_access(self, session_id: str, user_id: str, **envelope: Unpack[Envelope]) -> AppendResult:
        """Stop sharing a session with a user. Works on closed sessions too.

        Args:
            session_id: The session.
            user_id: The user whose grant is removed.
            envelope: See ``Envelope``.

        Returns:
            The result of the append.

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: The user has no grant; the message lists the users who have one.
            PermissionDenied: This is the view of a user who does not own the session.
        """
        check_text(user_id, "user_id")

        def changes(state: State) -> list[Change]:
            if ("grant", user_id) not in state:
                users = ", ".join(sorted(key for field, key in state if field == "grant")) or "none"
                raise InvalidInput(
                    f"Session {session_id} is not shared with {user_id}; nothing was written. Users with a grant: "
                    f"{users}."
                )
            return [Change("grant", user_id, removed=True)]

        return self._derive(session_id, "access.revoked", changes, envelope, require_open=False)

    def get_grants(self, session_id: str) -> dict[str, str]:
        """Return the grants of a session as a dict of user id to ``read`` or ``write``, sorted by user id.

        Raises:
            SessionNotFound: The session does not exist.
        """
        grants: dict[str, str] = self._require(session_id).grants
        return dict(sorted(grants.items()))

    def _owner(self, user_id: str | None = None) -> str:
        """Return the owner for a session that is to be created. On a view, the owner is the view's user.

        Raises:
            InvalidInput: This is not a view, and ``user_id`` is missing or not a valid id.
            PermissionDenied: This is a view, and ``user_id`` is not the view's user.
        """
        if self.user_id is None:
            return super()._owner(user_id)
        if user_id not in (None, self.user_id):
            raise PermissionDenied(
                f"This is the view of user {self.user_id}, who cannot create sessions for other users; nothing was "
                "written."
            )
        return self.user_id

    def _owner_criteria(self, user_id: str | None, shared: bool) -> dict[str, Any]:
        """Return the criteria for the sessions that a user owns or, if ``shared``, for those shared with the user."""
        if not shared:
            return {"user_id": user_id}
        grantee = self.user_id if user_id is None else user_id
        if grantee is None:
            raise InvalidInput("shared=True lists the sessions shared with a user: give their user_id.")
        return {"granted_to": grantee}
