"""Drop-in modules for older session stores: their names and arguments, over a ledger."""
