"""Output of the commands: tables, JSON and progress."""
