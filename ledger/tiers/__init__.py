"""Code that uses a store and its warehouse as one: it reads both, moves archived sessions, and runs the relay."""
