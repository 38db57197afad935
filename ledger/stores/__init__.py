"""Event stores: where appends commit."""
