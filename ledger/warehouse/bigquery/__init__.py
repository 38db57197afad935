"""The BigQuery warehouse, over Google's client libraries."""
