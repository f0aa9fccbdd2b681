"""Scores of a validation, by the kind of the network's outputs."""
