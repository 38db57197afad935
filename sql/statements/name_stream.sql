-- name_stream: register the write stream of a relay, if its fencing token is the newest.
--
-- Inputs: @store_id; @fence, the relay's fencing token; @stream.
-- Answer: held, true if the token is the newest; a retry gives the same answer until another relay starts.
-- Cost:   the rows of relay_leases.
-- Twin:   ledger/stores/sqlite/outbox.py (save).
-- Test:   tests/warehouse/test_bigquery_sink_begins.py
UPDATE `${project}.${dataset}.relay_leases`
SET stream = @stream, moved_at = CURRENT_TIMESTAMP()
WHERE store_id = @store_id AND fence = @fence;
SELECT COUNT(*) > 0 AS held
FROM `${project}.${dataset}.relay_leases`
WHERE store_id = @store_id AND fence = @fence AND stream = @stream;
