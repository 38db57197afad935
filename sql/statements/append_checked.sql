-- append_checked: append one event with a version check, whole or not at all.
--
-- Inputs: @session_id, @created_at and @user_id of the session; @version_before and @hash_before (empty for none) of
--         the expected head; the event's columns (empty for no actor or idempotency_key), and its @changes: field,
--         key, value, removed, value_hash and value_salt of each; @indexed, true if session_index holds the session's
--         creation time.
-- Answer: outcome is 'appended'; 'recorded' if the event exists already; 'moved' if the head is not the expected one;
--         'unlocked' if session_locks has lost its row. Only 'appended' writes.
-- Cost:   the session's blocks in one partition, and the one row of session_locks.
-- Twin:   ledger/stores/sqlite/write.py (append).
-- Test:   tests/contract/test_bigquery.py, tests/faults/test_bigquery_writers.py
--
-- The update comes first and acts as the lock: BigQuery aborts one of two concurrent transactions that update the same
-- table, and the caller repeats it. This serialises all checked appends to the dataset and thereby limits their rate.
DECLARE outcome STRING;
BEGIN TRANSACTION;
UPDATE `${project}.${dataset}.session_locks` SET moved_at = CURRENT_TIMESTAMP() WHERE TRUE;
SET outcome = (
  WITH
    heads AS (
      SELECT IFNULL(MAX(version), 0) AS version, IFNULL(MAX(event_hash), '') AS event_hash
      FROM `${project}.${dataset}.session_heads`
      WHERE session_id = @session_id AND created_at = @created_at
    ),
    events AS (
      SELECT COUNT(*) AS changes
      FROM `${project}.${dataset}.session_events`
      WHERE session_id = @session_id AND created_at = @created_at AND event_id = @event_id
    ),
    creations AS (
      SELECT MIN(created_at) AS created_at
      FROM `${project}.${dataset}.session_index`
      WHERE session_id = @session_id
    )
  SELECT
    CASE
      WHEN (SELECT COUNT(*) FROM `${project}.${dataset}.session_locks`) = 0 THEN 'unlocked'
      WHEN events.changes > 0 THEN 'recorded'
      WHEN heads.version != @version_before OR heads.event_hash != @hash_before THEN 'moved'
      WHEN @indexed AND creations.created_at != @created_at THEN 'moved'
      ELSE 'appended'
    END
  FROM heads
  CROSS JOIN events
  CROSS JOIN creations
);
IF outcome = 'appended' THEN
  IF @version_before > 0 THEN
    UPDATE `${project}.${dataset}.session_heads`
    SET version = @version_before + 1, updated_at = @recorded_at, event_hash = @event_hash
    WHERE session_id = @session_id AND created_at = @created_at;
  ELSE
    INSERT INTO `${project}.${dataset}.session_heads`
      (session_id, user_id, created_at, version, updated_at, event_hash, store_id)
    VALUES (@session_id, @user_id, @created_at, 1, @recorded_at, @event_hash, @store_id);
    IF @indexed THEN
      INSERT INTO `${project}.${dataset}.session_index` (session_id, created_at, user_id)
      VALUES (@session_id, @created_at, @user_id);
    END IF;
  END IF;
  INSERT INTO `${project}.${dataset}.session_events` (
    session_id, version, event_id, event_type, field, key, value, removed, user_id, actor, occurred_at, recorded_at,
    created_at, schema_version, store_id, value_hash, value_salt, prev_hash, event_hash, idempotency_key
  )
  SELECT
    @session_id, @version_before + 1, @event_id, @event_type, change.field, change.key,
    IF(change.value IS NULL, NULL, PARSE_JSON(change.value, wide_number_mode => 'round')), change.removed, @user_id,
    NULLIF(@actor, ''), @occurred_at, @recorded_at, @created_at, @schema_version, @store_id, change.value_hash,
    change.value_salt, NULLIF(@hash_before, ''), @event_hash, NULLIF(@idempotency_key, '')
  FROM UNNEST(@changes) AS change;
END IF;
COMMIT TRANSACTION;
SELECT outcome;
