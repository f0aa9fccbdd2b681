"""A trained U-Net as a predictor: tiles in, scores out."""
