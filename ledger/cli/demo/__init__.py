"""``ledger demo``: a recorded session, shown on every store."""
