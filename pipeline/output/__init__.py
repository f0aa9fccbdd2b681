"""The OME-Zarr output: its kinds, metadata, coarser levels, and what may be replaced."""
