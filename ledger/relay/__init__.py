"""The relay, which ships a store's rows to a warehouse in commit order, each row exactly once."""
