"""DuckDB as a local warehouse: it answers the same GoogleSQL as BigQuery."""
