-- session_heads: where each session stands, so that an append can be compared with it.
--
-- Grain:  (session_id).
-- Inputs: moved by appends straight to the warehouse that are checked, each in its own transaction. Sessions that a
--         relay brings have no row here: their heads are in the store that owns them.
-- Cost:   a range of created_at reads those days; session_id reads one block within them.
-- Twin:   ledger/model/session.py (Head).
-- Test:   tests/warehouse/test_duckdb_warehouse.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.session_heads` (
  session_id STRING NOT NULL OPTIONS (description = 'The session'),
  user_id STRING NOT NULL OPTIONS (description = 'Its owner'),
  created_at TIMESTAMP NOT NULL OPTIONS (description = 'When the session was created'),
  version INT64 NOT NULL OPTIONS (description = 'The version of its last event'),
  updated_at TIMESTAMP NOT NULL OPTIONS (description = 'When its last event was recorded'),
  event_hash STRING OPTIONS (description = 'The hash of its last event; NULL where it carries no chain'),
  store_id STRING NOT NULL OPTIONS (description = 'The store that owns the session')
)
PARTITION BY DATE(created_at)
CLUSTER BY session_id
OPTIONS (description = 'Where each session stands: its last version and the store that owns it');
