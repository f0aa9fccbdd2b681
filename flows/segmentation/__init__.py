"""A segmentation as every front end runs it."""
