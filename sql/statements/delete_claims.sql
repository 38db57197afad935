-- delete_claims: delete creation times that were fixed for sessions without an event.
--
-- Grain:  (session_id, created_at) of session_index.
-- Inputs: @session_ids are the ids; @created their creation times, which are @created_from or later and before
--         @created_until. They are remainders of retention or of a crash. Those of sessions that have events stay.
-- Cost:   session_index, all columns of it, and the sessions' blocks in the days of @created, which are constants; no
--         values.
-- Twin:   ledger/stores/sqlite/write.py (append).
-- Test:   tests/contract/test_bigquery.py
DELETE FROM `${project}.${dataset}.session_index`
WHERE session_id IN UNNEST(@session_ids)
  AND created_at >= @created_from
  AND created_at < @created_until
  AND created_at IN UNNEST(@created)
  AND session_id NOT IN (
    SELECT session_id
    FROM `${project}.${dataset}.session_events`
    WHERE session_id IN UNNEST(@session_ids)
      AND created_at >= @created_from
      AND created_at < @created_until
      AND created_at IN UNNEST(@created)
  );
