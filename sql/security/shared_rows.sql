-- shared_rows: an authorized view of all rows of a table that belong to no user, such as prices of models.
--
-- Grain:  that of the table.
-- Inputs: ${table} is a table of the ledger without the column user_id, which one of its views reads; ${views} is the
--         dataset of the readers' views.
-- Cost:   that of the table.
-- Twin:   ledger/warehouse/bigquery/security.py
-- Test:   tests/warehouse/test_security.py
CREATE OR REPLACE VIEW `${views}.${table}` AS
SELECT *
FROM `${project}.${dataset}.${table}`;
