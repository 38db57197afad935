-- relay_leases: who ships a store's rows here now, so that whoever did before can add none any more.
--
-- Grain:  (store_id).
-- Inputs: moved by each relay that begins (sql/statements/take_fence.sql), which then names its write stream
--         (sql/statements/name_stream.sql).
-- Cost:   next to nothing: a row for each store.
-- Twin:   ledger/stores/sqlite/outbox.py, which remembers where the relay stands.
-- Test:   tests/warehouse/test_bigquery_sink_begins.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.relay_leases` (
  store_id STRING NOT NULL OPTIONS (description = 'The store whose rows are shipped'),
  fence INT64 NOT NULL OPTIONS (description = 'Counts the relays that began; the last of them may ship'),
  stream STRING NOT NULL OPTIONS (description = 'The write stream that its rows go into; empty before the first'),
  holder STRING NOT NULL OPTIONS (description = 'Made for one beginning, which is told by it when repeated'),
  moved_at TIMESTAMP NOT NULL OPTIONS (description = 'When a relay last began, or named its stream')
)
OPTIONS (description = 'Who ships the rows of each store, and into which write stream');
