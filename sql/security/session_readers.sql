-- session_readers: which accounts may read the sessions of which users, for the policies and views of this folder.
--
-- Grain:  (reader, user_id).
-- Inputs: an administrator inserts and deletes rows; nobody may read anything until there are some.
-- Cost:   the whole table, which is small, with each statement over a table that has the policy or the view.
-- Twin:   docs/security.md
-- Test:   tests/warehouse/test_security.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.session_readers` (
  reader STRING NOT NULL OPTIONS (description = 'The account that may read, exactly as SESSION_USER() returns it: ana@example.com'),
  user_id STRING NOT NULL OPTIONS (description = 'The owner of the sessions that it may read'),
  note STRING OPTIONS (description = 'Why: a team, a ticket')
)
OPTIONS (description = 'Which accounts may read the sessions of which users');
