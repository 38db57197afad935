-- read_seals: the seals of a store, oldest first.
--
-- Grain:  (seal_id).
-- Inputs: seals. @store_id is the store.
-- Cost:   the rows of seals.
-- Twin:   ledger/warehouse/seals.py (recorded).
-- Test:   tests/warehouse/test_seals.py
SELECT DISTINCT seal_id, made_at, store_id, sessions, events, last_seq, root, previous_root, format_version
FROM `${project}.${dataset}.seals`
WHERE store_id = @store_id
ORDER BY made_at, seal_id
