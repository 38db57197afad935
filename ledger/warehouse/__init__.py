"""Warehouses: where the rows of all stores come together and GoogleSQL answers."""
