"""Create a session with a question; see --help."""

from ledger.cli.scripts.commands import create_test_session

if __name__ == "__main__":
    create_test_session()
