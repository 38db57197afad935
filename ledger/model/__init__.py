"""The model: events, changes, the fold, and the objects that reads return. It is pure: no I/O, clock or randomness."""
