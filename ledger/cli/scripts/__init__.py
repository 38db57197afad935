"""The commands behind ``scripts/``."""
