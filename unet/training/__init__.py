"""The training loop, what learns, and its checkpoints."""
