"""A segmentation run: prepared, started, run block by block, reported."""
