-- claim_creation: begin a session whose id does not say when it was created, at a time that everybody agrees on.
--
-- Inputs: @session_id, @user_id, and @created_at, the time to begin at where nobody has begun; @stale, before which a
--         creation without an event is what retention or a crash left behind.
-- Answer: outcome is the time that counts, as text, or 'unlocked' where session_locks has lost its row.
-- Cost:   the rows of this id, and the one row of session_locks.
-- Twin:   ledger/stores/sqlite/write.py (append).
-- Test:   tests/contract/test_bigquery.py, tests/faults/test_bigquery_races.py
--
-- An append alone could not do it: two writers would both find nothing, and the later row could hide the other's events.
DECLARE outcome STRING;
BEGIN TRANSACTION;
UPDATE `${project}.${dataset}.session_locks` SET moved_at = CURRENT_TIMESTAMP() WHERE TRUE;
DELETE FROM `${project}.${dataset}.session_index`
WHERE session_id = @session_id
  AND created_at < @stale
  AND session_id NOT IN (
    SELECT session_id FROM `${project}.${dataset}.session_events`
    WHERE session_id = @session_id AND created_at < @stale
  );
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
