-- reader_access: a row access policy that shows its members the sessions that session_readers lists for them.
--
-- Inputs: ${table} is a table of the ledger with the column user_id; ${members} are accounts, groups and domains.
-- Cost:   reads session_readers. The policy excludes no days: filters on created_at do, as without it.
-- Twin:   ledger/warehouse/bigquery/security.py
-- Test:   tests/warehouse/test_security.py
CREATE OR REPLACE ROW ACCESS POLICY session_ledger_readers
ON `${project}.${dataset}.${table}`
GRANT TO (${members})
FILTER USING (
  user_id IN (
    SELECT user_id
    FROM `${project}.${dataset}.session_readers`
    WHERE reader = SESSION_USER()
  )
);
