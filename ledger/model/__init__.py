"""The model: events, changes, the fold and the shapes readers get. Pure: no I/O, no clock, no randomness."""
