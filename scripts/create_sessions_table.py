"""Create or update the ledger's tables, views and functions; see --help."""

from ledger.cli.scripts.commands import create_sessions_table

if __name__ == "__main__":
    create_sessions_table()
