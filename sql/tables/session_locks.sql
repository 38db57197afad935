-- session_locks: one row that checked appends update first, so that of two at once BigQuery aborts one.
--
-- Grain:  one row. (Were it there twice, an update would still touch both.)
-- Inputs: filled by whoever creates the tables; updated by sql/statements/append_checked.sql and ingest_staged.sql.
-- Cost:   next to nothing. Its purpose is a conflict: INSERT and a MERGE that only inserts never conflict in BigQuery,
--         so two writers who both find no session would both begin it; UPDATEs of one table do.
-- Twin:   ledger/stores/sqlite/writer_lock.py, for processes on one SQLite file.
-- Test:   tests/faults/test_bigquery_writers.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.session_locks` (
  name STRING NOT NULL OPTIONS (description = 'What is locked: appends'),
  moved_at TIMESTAMP NOT NULL OPTIONS (description = 'When a checked append last took it')
)
OPTIONS (description = 'One row that checked appends update, so that they come one after the other');
