"""The parts of the SDK, which ``ledger.sessions`` puts together."""
