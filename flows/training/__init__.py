"""A training as every front end runs it."""
