"""The contract between what commits rows and what receives them; see ``docs/architecture.md``."""
