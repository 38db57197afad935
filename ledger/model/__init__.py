"""The model: events, changes, the fold, and the objects that reads return. No I/O, clock or randomness."""
