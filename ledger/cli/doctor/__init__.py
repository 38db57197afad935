"""``ledger doctor``: checks of the installation, the ledger and the warehouse."""
