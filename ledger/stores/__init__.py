"""Event stores: they record events and answer reads."""
