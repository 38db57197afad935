"""What sessions are exported to and imported from."""
