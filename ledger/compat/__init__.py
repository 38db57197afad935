"""Drop-in modules for earlier session stores: the same names and arguments, backed by a ledger."""
