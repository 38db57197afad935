"""The SDK: mixins, which ``ledger.sdk.ledger`` combines into ``SessionLedger``, and its asynchronous twin."""
