-- reconcile_sessions: a digest of the rows of each session, to compare with that of its store.
--
-- Grain:  (session_id, created_at).
-- Inputs: session_events. The sessions were created at @created_from or later and before @created_until; own is true if
--         the store @store_id wrote any of a session's rows.
-- Cost:   the days between, which are constants; no values.
-- Twin:   ledger/outbox/row_digests.py (session_digest).
-- Test:   tests/relay/test_reconcile_sides.py
--
-- Rows are digested one by one and joined in the order of their digests, so that the result does not depend on the
-- order of texts or NULLs. A session takes 64 bytes per row while they are joined.
WITH
  digests AS (
    SELECT
      session_id,
      created_at,
      version,
      store_id,
      CONCAT(event_id, '\n', field, '\n', key) AS slot,
      TO_HEX(
        SHA256(
          CONCAT(
            CAST(version AS STRING),
            '\n',
            event_id,
            '\n',
            field,
            '\n',
            key,
            '\n',
            IFNULL(event_hash, ''),
            '\n',
            IFNULL(value_hash, ''),
            IFNULL(CONCAT('\n', idempotency_key), '')
          )
        )
      ) AS digest
    FROM `${project}.${dataset}.session_events`
    WHERE created_at >= @created_from AND created_at < @created_until
  )
SELECT
  session_id,
  created_at,
  COUNT(*) AS row_count,
  COUNT(DISTINCT slot) AS slot_count,
  MAX(version) AS version,
  TO_HEX(SHA256(STRING_AGG(digest, '' ORDER BY digest))) AS digest,
  LOGICAL_OR(store_id = @store_id) AS own
FROM digests
GROUP BY created_at, session_id
