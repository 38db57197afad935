"""Create, verify or drop the ledger of analysis sessions; see --help."""

from ledger.cli.scripts.session_db import setup_session_db

if __name__ == "__main__":
    setup_session_db()
