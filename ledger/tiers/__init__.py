"""Tiers: a store and its warehouse used as one, with reads from both, archiving and the attached relay."""
