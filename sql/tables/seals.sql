-- seals: the seals of each store, so that whoever rewrites a store's file cannot rewrite its seals with it.
--
-- Grain:  (seal_id). The table may hold exact duplicates; sql/statements/read_seals.sql reads each once.
-- Inputs: one row from each `ledger seal` of a store whose warehouse this is. Rows are only ever added.
-- Cost:   negligible: one row per seal.
-- Twin:   ledger/model/seals.py (Seal).
-- Test:   tests/warehouse/test_seals.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.seals` (
  seal_id STRING NOT NULL OPTIONS (description = 'The seal'),
  store_id STRING NOT NULL OPTIONS (description = 'The store that was sealed'),
  made_at TIMESTAMP NOT NULL OPTIONS (description = 'Time of sealing by the clock of the store'),
  sessions INT64 NOT NULL OPTIONS (description = 'Number of sessions in the store, which are the leaves'),
  events INT64 NOT NULL OPTIONS (description = 'Number of their events: the sum of their versions'),
  last_seq INT64 NOT NULL OPTIONS (description = 'Position of the last row of the store'),
  root STRING NOT NULL OPTIONS (description = 'Merkle root over the heads of all sessions: 64 hexadecimal digits'),
  previous_root STRING OPTIONS (description = 'The root of the store\'s seal before this one; NULL for its first'),
  format_version INT64 NOT NULL OPTIONS (description = 'Version of the leaves and of the tree'),
  received_at TIMESTAMP NOT NULL OPTIONS (description = 'Time of this row by the clock of the warehouse')
)
OPTIONS (description = 'The seals of each store: Merkle roots over the heads of its sessions');
