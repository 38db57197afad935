"""A store and its warehouse as one: two-tier reads, archiving, the attached relay."""
