"""Which weights of a training are kept: those of the best validation, by a metric, or the last."""
