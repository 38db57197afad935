"""BigQuery as the warehouse, through Google's own clients."""
