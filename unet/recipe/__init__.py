"""The settings of a training, checked."""
