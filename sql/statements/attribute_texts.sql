-- attribute_texts: the JSON texts of arrays and objects that some attributes have or had.
--
-- Grain:  (key, text).
-- Inputs: session_events. Returns the texts of the attributes in @names, of sessions created at @created_from or later
--         and before @created_until. @user_id is their owner, empty for any. SQL cannot compare arrays and objects, so
--         the caller compares these texts and passes those that equal a criterion to list_sessions.
-- Cost:   the days between, which are constants, of five columns.
-- Twin:   ledger/stores/sqlite/criteria.py (_attribute_texts).
-- Test:   tests/property/test_criteria_laws.py
SELECT DISTINCT key, TO_JSON_STRING(value) AS text
FROM `${project}.${dataset}.session_events`
WHERE created_at >= @created_from
  AND created_at < @created_until
  AND (@user_id = '' OR user_id = @user_id)
  AND field = 'attribute'
  AND key IN UNNEST(@names)
  AND JSON_TYPE(value) IN ('array', 'object')
