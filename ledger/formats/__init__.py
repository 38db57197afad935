"""Export and import formats of sessions."""
