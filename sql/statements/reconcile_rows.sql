-- reconcile_rows: the rows of some sessions without their values, and the number of copies of each.
--
-- Grain:  (session_id, created_at, version, event_id, field, key, event_hash, value_hash, idempotency_key, store_id).
-- Inputs: session_events. @session_ids are the ids, @created the creation times of the sessions, which are
--         @created_from or later and before @created_until.
-- Cost:   the blocks of these ids in the days of @created, which are constants; no values.
-- Twin:   ledger/stores/sqlite/row_digests.py (row_digests).
-- Test:   tests/relay/test_reconcile.py
SELECT
  session_id,
  created_at,
  version,
  event_id,
  field,
  key,
  event_hash,
  value_hash,
  idempotency_key,
  store_id,
  COUNT(*) AS copies
FROM `${project}.${dataset}.session_events`
WHERE session_id IN UNNEST(@session_ids)
  AND created_at >= @created_from
  AND created_at < @created_until
  AND created_at IN UNNEST(@created)
GROUP BY session_id, created_at, version, event_id, field, key, event_hash, value_hash, idempotency_key, store_id
