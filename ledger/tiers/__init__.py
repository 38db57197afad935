"""A store and its warehouse used as one: reads from both, archived sessions, and the relay between them."""
