"""Make the ledger behind the session states, and say what is there; see --help."""

from ledger.cli.scripts.session_states import init_session_states

if __name__ == "__main__":
    init_session_states()
