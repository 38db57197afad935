-- ingest_staged: record events of another store from a staging table, all of them or none.
--
-- Inputs: @heads, the new heads of the sessions: session_id, user_id, created_at, version, updated_at, event_hash
--         (empty for none), and version_before, their version when the events were checked (0 for none); @created_from
--         and @created_until, the span of their creation; @checked, true if appends to new sessions are to be checked;
--         @indexed, the ids to add to session_index, which have no row in it from @stale or later; @store_id,
--         the store that owns the sessions from now on. The staging table, with the columns of session_events, replaces
--         session_staging.
-- Answer: outcome is 'ingested'; 'moved' if another writer appended to one of the sessions meanwhile; 'unlocked' if
--         session_locks has lost its row. Only 'ingested' writes.
-- Cost:   the blocks of these days, without values, and the staging table.
-- Twin:   ledger/stores/sqlite/write.py (ingest).
-- Test:   tests/contract/test_bigquery.py
DECLARE moved INT64 DEFAULT 0;
DECLARE outcome STRING DEFAULT 'moved';
BEGIN TRANSACTION;
UPDATE `${project}.${dataset}.session_locks` SET moved_at = CURRENT_TIMESTAMP() WHERE TRUE;
SET moved = (
  SELECT COUNT(*)
  FROM UNNEST(@heads) AS head
  LEFT JOIN (
    SELECT session_id, created_at, MAX(version) AS version
    FROM `${project}.${dataset}.session_events`
    WHERE created_at >= @created_from AND created_at < @created_until
    GROUP BY session_id, created_at
  ) AS found ON found.session_id = head.session_id AND found.created_at = head.created_at
  WHERE IFNULL(found.version, 0) != head.version_before
) + (
  SELECT COUNT(*)
  FROM `${project}.${dataset}.session_index`
  WHERE session_id IN UNNEST(@indexed) AND created_at >= @stale
);
IF (SELECT COUNT(*) FROM `${project}.${dataset}.session_locks`) = 0 THEN
  SET outcome = 'unlocked';
END IF;
IF outcome != 'unlocked' AND moved = 0 THEN
  SET outcome = 'ingested';
  INSERT INTO `${project}.${dataset}.session_index` (session_id, created_at, user_id)
  SELECT head.session_id, head.created_at, head.user_id
  FROM UNNEST(@heads) AS head
  WHERE head.version_before = 0 AND head.session_id IN UNNEST(@indexed);
  UPDATE `${project}.${dataset}.session_heads` AS known
  SET
    version = head.version,
    updated_at = GREATEST(known.updated_at, head.updated_at),
    event_hash = IF(head.event_hash = '', known.event_hash, head.event_hash)
  FROM UNNEST(@heads) AS head
  WHERE known.session_id = head.session_id
    AND known.created_at = head.created_at
    AND known.created_at >= @created_from
    AND known.created_at < @created_until;
  INSERT INTO `${project}.${dataset}.session_heads`
    (session_id, user_id, created_at, version, updated_at, event_hash, store_id)
  SELECT
    head.session_id, head.user_id, head.created_at, head.version, head.updated_at, NULLIF(head.event_hash, ''), @store_id
  FROM UNNEST(@heads) AS head
  WHERE head.version_before = 0 AND @checked;
  INSERT INTO `${project}.${dataset}.session_events` (
    session_id, version, event_id, event_type, field, key, value, removed, user_id, actor, occurred_at, recorded_at,
    created_at, schema_version, store_id, value_hash, value_salt, prev_hash, event_hash, idempotency_key
  )
  SELECT
    session_id, version, event_id, event_type, field, key, value, removed, user_id, actor, occurred_at, recorded_at,
    created_at, schema_version, store_id, value_hash, value_salt, prev_hash, event_hash, idempotency_key
  FROM `${project}.${dataset}.session_staging`
  -- The table may require the filter, as session_events may.
  WHERE created_at >= @created_from AND created_at < @created_until
  -- A retried request may have staged its rows twice.
  QUALIFY ROW_NUMBER() OVER (PARTITION BY session_id, event_id, field, key ORDER BY version) = 1;
END IF;
COMMIT TRANSACTION;
SELECT outcome;
