-- name_stream: say which write stream a relay's rows go into, where that relay is still the last that began.
--
-- Inputs: @store_id; @fence, which the relay holds; @stream.
-- Answer: held, whether it was; asked again it answers the same, until another begins.
-- Cost:   the rows of relay_leases.
-- Twin:   ledger/stores/sqlite/outbox.py (save).
-- Test:   tests/warehouse/test_bigquery_sink_begins.py
UPDATE `${project}.${dataset}.relay_leases`
SET stream = @stream, moved_at = CURRENT_TIMESTAMP()
WHERE store_id = @store_id AND fence = @fence;
SELECT COUNT(*) > 0 AS held
FROM `${project}.${dataset}.relay_leases`
WHERE store_id = @store_id AND fence = @fence AND stream = @stream;
