"""Protocols of the stores that commit rows and of the warehouses that receive them; see ``docs/architecture.md``."""
