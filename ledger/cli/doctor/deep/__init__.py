"""``ledger doctor --deep``: experiments in a scratch dataset that compare BigQuery with what the code assumes of it."""
