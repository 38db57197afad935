-- existing_rows: the rows of some events that exist.
--
-- Grain:  (session_id, event_id, field, key).
-- Inputs: session_events. @session_ids and @event_ids identify the events; @created are the creation times of the
--         sessions, which are @created_from or later and before @created_until.
-- Cost:   the blocks of these sessions in the days of @created, which are constants; no values.
-- Twin:   ledger/outbox/rows.py (row_key).
-- Test:   tests/warehouse/test_bigquery_sink.py
SELECT DISTINCT session_id, event_id, field, key
FROM `${project}.${dataset}.session_events`
WHERE session_id IN UNNEST(@session_ids)
  AND created_at >= @created_from
  AND created_at < @created_until
  AND created_at IN UNNEST(@created)
  AND event_id IN UNNEST(@event_ids)
