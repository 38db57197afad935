-- session_index: the creation time of sessions whose ids do not contain it (ids other than UUIDv7).
--
-- Grain:  (session_id, created_at). Of several rows for one id the earliest created_at is valid.
-- Inputs: one row from the writer of a session's first event.
-- Cost:   session_id reads one block; there are no partitions, since a look-up does not know the day.
-- Twin:   ledger/warehouse/projection.py (creation_of).
-- Test:   tests/warehouse/test_duckdb_warehouse.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.session_index` (
  session_id STRING NOT NULL OPTIONS (description = 'The session'),
  created_at TIMESTAMP NOT NULL OPTIONS (description = 'Creation time of the session, which names the partition of its rows'),
  user_id STRING NOT NULL OPTIONS (description = 'The owner of the session')
)
CLUSTER BY session_id
OPTIONS (description = 'The creation time of each session, by id');
