"""BigQuery as the event store, without a local file."""
