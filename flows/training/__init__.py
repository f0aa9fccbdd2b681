"""A training as the shell and the flow run it."""
