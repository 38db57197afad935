-- model_price_periods: the prices of language models, each with the days on which it holds.
--
-- Grain:  (provider, model, valid_from).
-- Inputs: model_prices.
-- Cost:   the rows of model_prices, which are few.
-- Twin:   ledger/testing/activity.py (estimated_cost)
-- Test:   tests/property/test_analytics.py, tests/sql/test_prices.py
--
-- A price holds until the next one of the same provider and model. A price of 0 output is for models without output
-- tokens, such as embeddings.
--
-- Columns:
--   provider STRING: Who serves the model; empty: any provider that has no price of its own
--   model STRING: The model, as model calls name it
--   valid_from DATE: The first day of these prices, in UTC
--   valid_until DATE: The first day of the next prices; 9999-12-31 if there are none
--   input_usd_per_million FLOAT64: US dollars for a million input tokens
--   cached_input_usd_per_million FLOAT64: US dollars for a million input tokens from a cache
--   output_usd_per_million FLOAT64: US dollars for a million output tokens
CREATE OR REPLACE VIEW `${project}.${dataset}.model_price_periods` AS
WITH
  latest_imports AS (
    SELECT
      provider,
      model,
      valid_from,
      input_usd_per_million,
      IFNULL(cached_input_usd_per_million, input_usd_per_million) AS cached_input_usd_per_million,
      output_usd_per_million
    FROM `${project}.${dataset}.model_prices`
    WHERE TRUE  -- GoogleSQL wants a WHERE beside QUALIFY
    QUALIFY ROW_NUMBER() OVER (PARTITION BY provider, model, valid_from ORDER BY imported_at DESC) = 1
  )
SELECT
  provider,
  model,
  valid_from,
  LEAD(valid_from, 1, DATE '9999-12-31') OVER (PARTITION BY provider, model ORDER BY valid_from) AS valid_until,
  input_usd_per_million,
  cached_input_usd_per_million,
  output_usd_per_million
FROM latest_imports;
