-- read_messages: the messages that stand in one session, a page of them.
--
-- Grain:  (key), which is the message's id.
-- Inputs: session_state. @session_id is the id; @first_day and @next_day name the day of its creation; messages after
--         (@after_version, @after_key) are given, @at_most of them: the first, or with @newest the last.
-- Cost:   the session's blocks in the one partition that the day names.
-- Twin:   ledger/stores/sqlite/read.py (messages).
-- Test:   tests/contract/test_bigquery.py
SELECT
  key,
  version,
  IF(value IS NULL, NULL, TO_JSON_STRING(value)) AS text
FROM `${project}.${dataset}.session_state`(@session_id, @first_day, @next_day, NULL)
WHERE field = 'message'
  AND (version > @after_version OR (version = @after_version AND key > @after_key))
QUALIFY IF(
  @newest,
  ROW_NUMBER() OVER (ORDER BY version DESC, key DESC),
  ROW_NUMBER() OVER (ORDER BY version, key)
) <= @at_most
ORDER BY version, key
