"""The first pass over a block: its fragments, and the surface that its neighbours need."""
