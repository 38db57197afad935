-- read_messages: a page of the current messages of one session.
--
-- Grain:  (key), which is the message's id.
-- Inputs: session_state. @session_id is the id; @first_day and @next_day are the day of its creation and the day after.
--         Returns @at_most messages after (@after_version, @after_key): the first, or with
--         @newest the last, the last of all first.
-- Cost:   the session's blocks in the one partition of that day.
-- Twin:   ledger/stores/sqlite/read.py (messages).
-- Test:   tests/contract/test_bigquery.py
SELECT
  key,
  version,
  IF(value IS NULL, NULL, TO_JSON_STRING(value)) AS text,
  actor,
  occurred_at,
  recorded_at
FROM `${project}.${dataset}.session_state`(@session_id, @first_day, @next_day, NULL)
WHERE field = 'message'
  AND (version > @after_version OR (version = @after_version AND key > @after_key))
ORDER BY
  IF(@newest, NULL, version),
  IF(@newest, NULL, key),
  version DESC,
  key DESC
LIMIT @at_most
