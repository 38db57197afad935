"""The embedded event store, in one SQLite file; ``store.SqliteStore`` is its entry point."""
