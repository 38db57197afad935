-- find_creation: the creation times of sessions whose ids do not contain them.
--
-- Grain:  (session_id); unknown ids have no row.
-- Inputs: session_index. @session_ids are the ids.
-- Cost:   the blocks of these ids; the table has no partitions.
-- Twin:   ledger/stores/sqlite/read.py (HEAD).
-- Test:   tests/contract/test_bigquery.py
SELECT session_id, MIN(created_at) AS created_at
FROM `${project}.${dataset}.session_index`
WHERE session_id IN UNNEST(@session_ids)
GROUP BY session_id
