"""The event store in BigQuery, without a local file; ``store.BigQueryStore`` is its entry point."""
