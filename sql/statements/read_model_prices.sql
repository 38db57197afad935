-- read_model_prices: the price list, sorted by model, provider and first day.
--
-- Twin:   ledger/stores/sqlite/prices.py
-- Test:   tests/warehouse/test_prices.py
SELECT
  model, valid_from, input_usd_per_million, output_usd_per_million, cached_input_usd_per_million, provider
FROM `${project}.${dataset}.model_prices`
WHERE TRUE  -- GoogleSQL wants a WHERE beside QUALIFY
QUALIFY ROW_NUMBER() OVER (PARTITION BY provider, model, valid_from ORDER BY imported_at DESC) = 1
ORDER BY model, provider, valid_from
