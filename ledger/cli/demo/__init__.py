"""``ledger demo``: record a session and show it."""
