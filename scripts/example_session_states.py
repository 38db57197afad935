"""Show every function of the session states on a ledger of its own; see --help."""

from ledger.cli.scripts.session_states import example_session_states

if __name__ == "__main__":
    example_session_states()
