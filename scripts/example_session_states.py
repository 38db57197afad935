"""Call every function of session_states on a temporary ledger; see --help."""

from ledger.cli.scripts.session_states import example_session_states

if __name__ == "__main__":
    example_session_states()
