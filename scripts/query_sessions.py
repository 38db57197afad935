"""Show one session, or the newest ones; see --help."""

from ledger.cli.scripts.commands import query_sessions

if __name__ == "__main__":
    query_sessions()
