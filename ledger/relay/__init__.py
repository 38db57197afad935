"""The relay: a store's rows go to a warehouse in the order they were committed, each exactly once."""
