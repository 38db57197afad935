-- model_prices: what calls of language models cost, by provider, model and day, as the user has imported it.
--
-- Grain:  (provider, model, valid_from). model_price_periods reads each once, the last import of it.
-- Inputs: `ledger prices import`; the price list of a SQLite ledger is in its file and is copied to its warehouse.
-- Cost:   negligible: some rows for each model. BigQuery bills at least 10 MB for each table that a statement reads.
-- Twin:   ledger/model/prices.py (ModelPrice).
-- Test:   tests/warehouse/test_prices.py
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.model_prices` (
  provider STRING NOT NULL OPTIONS (description = 'Who serves the model; empty: any provider that has no price of its own'),
  model STRING NOT NULL OPTIONS (description = 'The model, as model calls name it'),
  valid_from DATE NOT NULL OPTIONS (description = 'The first day of these prices, in UTC'),
  input_usd_per_million FLOAT64 NOT NULL OPTIONS (description = 'US dollars for a million input tokens'),
  cached_input_usd_per_million FLOAT64 OPTIONS (description = 'US dollars for a million input tokens from a cache; NULL: as other input tokens'),
  output_usd_per_million FLOAT64 NOT NULL OPTIONS (description = 'US dollars for a million output tokens'),
  imported_at TIMESTAMP NOT NULL OPTIONS (description = 'Time of the import')
)
OPTIONS (description = 'Prices of language models by provider, model and day, as imported');
