-- relay_leases: the current relay of each store, with a fencing token so that earlier relays can add no more rows.
--
-- Grain:  (store_id).
-- Inputs: updated by each relay that starts (sql/statements/take_fence.sql), which then registers its write stream
--         (sql/statements/name_stream.sql).
-- Cost:   negligible: one row per store.
-- Twin:   ledger/stores/sqlite/outbox.py, which keeps the relay's checkpoint.
-- Test:   tests/warehouse/test_bigquery_sink_begins.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.relay_leases` (
  store_id STRING NOT NULL OPTIONS (description = 'The store whose rows are shipped'),
  fence INT64 NOT NULL OPTIONS (description = 'Fencing token: counts relay starts; only the newest may ship'),
  stream STRING NOT NULL OPTIONS (description = 'Write stream of the relay; empty before the first'),
  holder STRING NOT NULL OPTIONS (description = 'Name made for one relay start; identifies a retried request'),
  moved_at TIMESTAMP NOT NULL OPTIONS (description = 'Time of the last start of a relay or registration of a stream')
)
OPTIONS (description = 'The current relay of each store and its write stream');
