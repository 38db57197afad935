-- full_access: a row access policy that shows all rows of a table to its members.
--
-- Inputs: ${table} is a table of the ledger with the column user_id. ${members} are the accounts that append, ship,
--         delete and administer: once a table has a policy, all others see no row and may change none.
-- Cost:   none.
-- Twin:   ledger/warehouse/bigquery/security.py
-- Test:   tests/warehouse/test_security.py
CREATE OR REPLACE ROW ACCESS POLICY session_ledger_full_access
ON `${project}.${dataset}.${table}`
GRANT TO (${members})
FILTER USING (TRUE);
