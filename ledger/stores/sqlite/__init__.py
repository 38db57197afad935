"""The embedded event store, in one SQLite file; ``store.SqliteStore`` puts its parts together."""
