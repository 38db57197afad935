-- take_fence: acquire the fencing token of the one relay that ships a store's rows.
--
-- Inputs: @store_id; @holder, a name made for this start of the relay, the same when the request is retried.
-- Answer: outcome is 'taken', or 'unlocked' if session_locks has lost its row and nothing was written; fence is the
--         relay's new fencing token, and stream the previous write stream, or empty.
-- Cost:   the one row of session_locks, and the rows of relay_leases.
-- Twin:   ledger/stores/sqlite/outbox.py (acquire).
-- Test:   tests/warehouse/test_bigquery_sink_begins.py
--
-- The update of session_locks is the lock, as in append_checked.sql: two relays that both found no row would both
-- insert one. If the store's row names this holder, the request was executed before and its answer was lost.
DECLARE lease STRUCT<outcome STRING, fence INT64, stream STRING>;
BEGIN TRANSACTION;
UPDATE `${project}.${dataset}.session_locks` SET moved_at = CURRENT_TIMESTAMP() WHERE TRUE;
SET lease = (
  SELECT AS STRUCT
    CASE
      WHEN (SELECT COUNT(*) FROM `${project}.${dataset}.session_locks`) = 0 THEN 'unlocked'
      WHEN COUNT(*) = 0 THEN 'first'
      WHEN MAX(holder) = @holder THEN 'taken'
      ELSE 'next'
    END AS outcome,
    IFNULL(MAX(fence), 0) AS fence,
    IFNULL(MAX(stream), '') AS stream
  FROM `${project}.${dataset}.relay_leases`
  WHERE store_id = @store_id
);
IF lease.outcome = 'first' THEN
  INSERT INTO `${project}.${dataset}.relay_leases` (store_id, fence, stream, holder, moved_at)
  VALUES (@store_id, 1, '', @holder, CURRENT_TIMESTAMP());
END IF;
IF lease.outcome = 'next' THEN
  UPDATE `${project}.${dataset}.relay_leases`
  SET fence = fence + 1, holder = @holder, moved_at = CURRENT_TIMESTAMP()
  WHERE store_id = @store_id;
END IF;
COMMIT TRANSACTION;
SELECT
  IF(lease.outcome = 'unlocked', lease.outcome, 'taken') AS outcome,
  lease.fence + IF(lease.outcome IN ('first', 'next'), 1, 0) AS fence,
  lease.stream;
