-- search_text: a page of the current texts that contain some words, newest session first.
--
-- Grain:  (session_id, created_at, field, key).
-- Inputs: session_fields. Searches sessions created at @created_from or later and before @created_until; with @user_id
--         only those of this owner, with @session_id only this one, with @visible_to only those of this user and those
--         shared with them, with @role only messages of this role; each is empty for any. @terms are the terms of SEARCH: words in lower case, and phrases,
--         each in backticks, as BigQuery takes some words for operators. Returns at most @at_most matches after
--         (@before, @before_id, @after_version, @after_field, @after_key) in the order of the result.
-- Cost:   the days between, which are constants, whole except for columns that are not read.
-- Twin:   ledger/model/search.py (words, text_of), ledger/stores/sqlite/search.py (search).
-- Test:   tests/property/test_search.py, tests/contract/test_bigquery.py
WITH
  texts AS (
    SELECT
      created_at,
      session_id,
      user_id,
      field,
      key,
      version,
      IF(field = 'message', JSON_VALUE(value, '$.role'), NULL) AS role,
      CASE
        WHEN field != 'message' THEN JSON_VALUE(value)
        WHEN JSON_TYPE(JSON_QUERY(value, '$.content')) = 'string' THEN JSON_VALUE(value, '$.content')
        ELSE (
          SELECT STRING_AGG(JSON_VALUE(part, '$.text'), '\n' ORDER BY place)
          -- A value that is not an array gives NULL in BigQuery and an error in its emulator.
          FROM UNNEST(
            JSON_QUERY_ARRAY(
              IF(JSON_TYPE(JSON_QUERY(value, '$.content')) = 'array', JSON_QUERY(value, '$.content'), NULL)
            )
          ) AS part WITH OFFSET AS place
          WHERE JSON_TYPE(JSON_QUERY(part, '$.text')) = 'string'
        )
      END AS text
    FROM `${project}.${dataset}.session_fields`
    WHERE created_at >= @created_from
      AND created_at < @created_until
      AND field IN ('message', 'question', 'summary', 'title')
      AND (@user_id = '' OR user_id = @user_id)
      AND (@session_id = '' OR session_id = @session_id)
      AND (@role = '' OR (field = 'message' AND JSON_VALUE(value, '$.role') = @role))
  ),
  -- The words alone, separated by spaces, so that SEARCH splits words as the ledger does. A letter and its accent are
  -- one character where there is one (NFC). The last replacement is of an i with a dot above, the lower case of the
  -- capital dotted I.
  split_texts AS (
    SELECT
      created_at,
      session_id,
      user_id,
      field,
      key,
      version,
      role,
      text,
      ARRAY_TO_STRING(
        REGEXP_EXTRACT_ALL(
          REPLACE(REPLACE(NORMALIZE(LOWER(text), NFC), 'ς', 'σ'), 'i̇', 'i'),
          r'[\p{L}\p{N}][\p{L}\p{M}\p{N}]*'
        ),
        ' '
      ) AS words
    FROM texts
  ),
  matches AS (
    SELECT created_at, session_id, user_id, field, key, version, role, text
    FROM split_texts
    WHERE SEARCH(words, @terms)
  ),
  deletions AS (
    SELECT created_at, session_id
    FROM `${project}.${dataset}.session_fields`
    WHERE created_at >= @created_from
      AND created_at < @created_until
      AND field = 'status'
      AND JSON_VALUE(value) = 'deleted'
  ),
  grants AS (
    SELECT created_at, session_id
    FROM `${project}.${dataset}.session_fields`
    WHERE created_at >= @created_from
      AND created_at < @created_until
      AND field = 'grant'
      AND key = @visible_to
      AND JSON_VALUE(value) IN ('read', 'write')
  )
SELECT
  matches.created_at,
  matches.session_id,
  matches.version,
  matches.field,
  matches.key,
  matches.user_id,
  matches.role,
  matches.text
FROM matches
LEFT JOIN deletions ON deletions.created_at = matches.created_at AND deletions.session_id = matches.session_id
LEFT JOIN grants ON grants.created_at = matches.created_at AND grants.session_id = matches.session_id
WHERE deletions.session_id IS NULL
  AND (@visible_to = '' OR matches.user_id = @visible_to OR grants.session_id IS NOT NULL)
  AND (
    matches.created_at < @before
    OR (matches.created_at = @before AND matches.session_id < @before_id)
    OR (
      matches.created_at = @before
      AND matches.session_id = @before_id
      AND (
        matches.version > @after_version
        OR (matches.version = @after_version AND matches.field > @after_field)
        OR (matches.version = @after_version AND matches.field = @after_field AND matches.key > @after_key)
      )
    )
  )
ORDER BY matches.created_at DESC, matches.session_id DESC, matches.version, matches.field, matches.key
LIMIT @at_most
