-- claim_creation: fix the creation time of a session whose id does not contain it, the same for all writers.
--
-- Inputs: @session_id, @user_id, and @created_at, the creation time unless another writer has fixed one.
-- Answer: outcome is the fixed creation time in microseconds, as text, or 'unlocked' if session_locks has lost its row.
-- Cost:   the rows of this id, and the one row of session_locks.
-- Twin:   ledger/stores/sqlite/write.py (append).
-- Test:   tests/contract/test_bigquery.py, tests/faults/test_bigquery_races.py
--
-- An append alone is not enough: two writers could both find no session, and the later row could hide the events of the
-- other. Rows of session_index may have been streamed recently, so a transaction must not delete any; see
-- delete_claims.sql.
DECLARE outcome STRING;
BEGIN TRANSACTION;
UPDATE `${project}.${dataset}.session_locks` SET moved_at = CURRENT_TIMESTAMP() WHERE TRUE;
INSERT INTO `${project}.${dataset}.session_index` (session_id, created_at, user_id)
SELECT @session_id, @created_at, @user_id
FROM UNNEST([1])
WHERE @session_id NOT IN (
  SELECT session_id FROM `${project}.${dataset}.session_index` WHERE session_id = @session_id
);
SET outcome = (
  SELECT
    IF(
      (SELECT COUNT(*) FROM `${project}.${dataset}.session_locks`) = 0,
      'unlocked',
      CAST(UNIX_MICROS(MIN(created_at)) AS STRING)
    )
  FROM `${project}.${dataset}.session_index`
  WHERE session_id = @session_id
);
COMMIT TRANSACTION;
SELECT outcome;
