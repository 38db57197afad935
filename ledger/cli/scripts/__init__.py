"""Commands of the scripts in ``scripts/``."""
