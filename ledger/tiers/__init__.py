"""Tiers: a store and its warehouse used as one: reads from both, archiving, the attached relay."""
