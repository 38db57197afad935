"""Create the ledger behind session_states, and print the number of records; see --help."""

from ledger.cli.scripts.session_states import init_session_states

if __name__ == "__main__":
    init_session_states()
