-- record_seal: record a seal of a store, unless it is recorded already.
--
-- Grain:  (seal_id).
-- Inputs: seals. @seal_id, @store_id, @made_at, @sessions, @events, @last_seq, @root, @format_version are those of the
--         seal; so is @previous_root, which is empty for the first seal of a store.
-- Cost:   the rows of seals.
-- Twin:   ledger/warehouse/seals.py (record).
-- Test:   tests/warehouse/test_seals.py
INSERT INTO `${project}.${dataset}.seals` (
  seal_id, store_id, made_at, sessions, events, last_seq, root, previous_root, format_version, received_at
)
SELECT
  @seal_id, @store_id, @made_at, @sessions, @events, @last_seq, @root, NULLIF(@previous_root, ''), @format_version,
  CURRENT_TIMESTAMP()
FROM UNNEST([1])
WHERE @seal_id NOT IN (SELECT seal_id FROM `${project}.${dataset}.seals` WHERE seal_id = @seal_id)
