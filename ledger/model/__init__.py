"""The model: events, changes, the fold, and the objects that reads return. Pure: no I/O, no clock, no randomness."""
