"""Show a session, or the newest sessions; see --help."""

from ledger.cli.scripts.commands import query_sessions

if __name__ == "__main__":
    query_sessions()
