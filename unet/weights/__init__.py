"""Weights files: where they are, what they state, how they are read and written."""
