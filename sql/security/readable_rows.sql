-- readable_rows: an authorized view of the rows of a table that session_readers lets the account read.
--
-- Grain:  that of the table.
-- Inputs: ${table} is a table of the ledger with the column user_id, ${views} the dataset of the readers' views. All
--         columns are there, as the ledger's own views read this one in place of the table.
-- Cost:   reads session_readers; filters on created_at and session_id reach the table.
-- Twin:   ledger/warehouse/bigquery/security.py
-- Test:   tests/warehouse/test_security.py
CREATE OR REPLACE VIEW `${views}.${table}` AS
SELECT *
FROM `${project}.${dataset}.${table}`
WHERE
  user_id IN (
    SELECT user_id
    FROM `${project}.${dataset}.session_readers`
    WHERE reader = SESSION_USER()
  );
