-- billed_jobs: what the ledger's jobs were billed, by day and operation.
--
-- Grain:  (day, operation).
-- Inputs: `${jobs}`, which becomes the JOBS_BY_PROJECT or JOBS_BY_USER of the INFORMATION_SCHEMA in the dataset's
--         location. @begin and @end are the span in which the jobs were created; @dataset is the value of their label
--         ledger_dataset.
-- Cost:   the jobs of these days, at least 10 MB.
-- Twin:   none.
-- Test:   tests/warehouse/test_billed_jobs.py
--
-- BigQuery keeps the list of jobs for 180 days. Jobs of statements within a script are left out: the job of the script has their sum.
SELECT
  DATE(creation_time) AS day,
  IFNULL((SELECT MAX(label.value) FROM UNNEST(labels) AS label WHERE label.key = 'operation'), '') AS operation,
  COUNT(*) AS job_count,
  IFNULL(SUM(total_bytes_processed), 0) AS bytes_processed,
  IFNULL(SUM(total_bytes_billed), 0) AS bytes_billed
FROM `${jobs}`
WHERE creation_time >= @begin
  AND creation_time < @end
  AND parent_job_id IS NULL
  AND EXISTS (SELECT 1 FROM UNNEST(labels) AS label WHERE label.key = 'app' AND label.value = 'session-ledger')
  AND EXISTS (SELECT 1 FROM UNNEST(labels) AS label WHERE label.key = 'ledger_dataset' AND label.value = @dataset)
GROUP BY day, operation
ORDER BY day, bytes_billed DESC, operation
