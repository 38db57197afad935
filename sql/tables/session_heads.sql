-- session_heads: the head of each session, to check the expected version of an append.
--
-- Grain:  (session_id).
-- Inputs: updated by checked appends made directly to the warehouse, each in its own transaction. Sessions shipped by a
--         relay have no row here: their heads are in the store that owns them.
-- Cost:   a range of created_at reads those days; session_id reads one block within them.
-- Twin:   ledger/model/session.py (Head).
-- Test:   tests/warehouse/test_duckdb_warehouse.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.session_heads` (
  session_id STRING NOT NULL OPTIONS (description = 'The session'),
  user_id STRING NOT NULL OPTIONS (description = 'The owner of the session'),
  created_at TIMESTAMP NOT NULL OPTIONS (description = 'Creation time of the session'),
  version INT64 NOT NULL OPTIONS (description = 'The version of its last event'),
  updated_at TIMESTAMP NOT NULL OPTIONS (description = 'Time at which its last event was recorded'),
  event_hash STRING OPTIONS (description = 'The hash of its last event; NULL without a hash chain'),
  store_id STRING NOT NULL OPTIONS (description = 'The store that owns the session')
)
PARTITION BY DATE(created_at)
CLUSTER BY session_id
OPTIONS (description = 'The head of each session: its last version and the store that owns it');
