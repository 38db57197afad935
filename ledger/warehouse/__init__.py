"""Warehouses: BigQuery and DuckDB, which collect the rows of stores and answer GoogleSQL."""
