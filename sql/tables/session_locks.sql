-- session_locks: one row that checked appends update first, so that BigQuery aborts one of two concurrent appends.
--
-- Grain:  one row. (If there were two, an update would still change both.)
-- Inputs: filled when the tables are created; updated by sql/statements/append_checked.sql and ingest_staged.sql.
-- Cost:   negligible. The table exists to cause conflicts: in BigQuery, INSERT and an insert-only MERGE never conflict,
--         so two writers that both find no session would both create it; UPDATEs of one table do conflict.
-- Twin:   ledger/stores/sqlite/writer_lock.py, for processes on one SQLite file.
-- Test:   tests/faults/test_bigquery_writers.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.session_locks` (
  name STRING NOT NULL OPTIONS (description = 'Name of the lock: appends'),
  moved_at TIMESTAMP NOT NULL OPTIONS (description = 'Time at which a checked append last took the lock')
)
OPTIONS (description = 'One row that checked appends update, which serialises them');
