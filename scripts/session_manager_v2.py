"""The session manager under its original module name: ``from session_manager_v2 import SessionManagerV2``."""

from ledger.sdk.ledger import SessionManagerV2

__all__ = ["SessionManagerV2"]
