-- import_model_prices: add prices of language models to the price list, or replace the whole list.
--
-- Inputs: model_prices. @prices are the prices: provider, model, valid_from, input_usd_per_million,
--         output_usd_per_million, and cached_input_usd_per_million, which is -1 if it is not known; an entry without a
--         model stands for an empty list, which has no type. @replaces is true if all other prices are to go;
--         @imported_at is the time of the import.
-- Answer: none.
-- Cost:   the rows of model_prices.
-- Twin:   ledger/model/prices.py (merged).
-- Test:   tests/warehouse/test_prices.py
--
-- An earlier price of the same key stays in the table: model_price_periods reads the last import of each.
BEGIN TRANSACTION;
DELETE FROM `${project}.${dataset}.model_prices` WHERE @replaces;
INSERT INTO `${project}.${dataset}.model_prices` (
  provider, model, valid_from, input_usd_per_million, cached_input_usd_per_million, output_usd_per_million, imported_at
)
SELECT
  price.provider,
  price.model,
  price.valid_from,
  price.input_usd_per_million,
  NULLIF(price.cached_input_usd_per_million, -1),
  price.output_usd_per_million,
  @imported_at
FROM UNNEST(@prices) AS price
WHERE price.model != '';
COMMIT TRANSACTION;
