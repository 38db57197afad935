"""The parts of the SDK, which ``ledger.sdk.ledger`` puts together."""
