"""The SDK: ``SessionLedger``, which combines the mixin classes of this package, and ``AsyncSessionLedger``."""
