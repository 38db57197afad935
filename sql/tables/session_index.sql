-- session_index: when a session was created, for ids that do not carry it (those that are no UUIDv7).
--
-- Grain:  (session_id, created_at). Of several rows for one id the earliest created_at wins.
-- Inputs: one row from whoever records a session's first event.
-- Cost:   session_id reads one block; there are no partitions, since the day is what a look-up here wants to know.
-- Twin:   ledger/warehouse/projection.py (creation_of).
-- Test:   tests/warehouse/test_duckdb_warehouse.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.session_index` (
  session_id STRING NOT NULL OPTIONS (description = 'The session'),
  created_at TIMESTAMP NOT NULL OPTIONS (description = 'When it was created: the partition that holds its rows'),
  user_id STRING NOT NULL OPTIONS (description = 'Its owner')
)
CLUSTER BY session_id
OPTIONS (description = 'The creation time of each session, by id');
