"""DuckDB as the warehouse: BigQuery's stand-in on a laptop, answering the same GoogleSQL."""
