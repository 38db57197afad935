"""The SDK: mixin classes, which ``ledger.sdk.ledger`` combines into ``SessionLedger``, and ``AsyncSessionLedger``."""
