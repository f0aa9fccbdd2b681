"""Everything that is decided and checked before a run, and the value that is left of it."""
